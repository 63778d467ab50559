"""The first attention mask: the main direction in which the backbone's features differ (docs/method.md, 9)."""

from __future__ import annotations

import torch
from torch import Tensor

ITERATIONS = 12  # the eigenvalues of a feature map fall steeply; tests compare with an exact decomposition
THRESHOLD = 0.6
MARGIN = 1e-4  # of the spread of the scores; less is rounding, as where a grid is all border


@torch.no_grad()
def principal_component(tokens: Tensor) -> Tensor:
    """Scores `[B, N]` of each image's tokens `[B, N, C]` on its first principal component, up to sign.

    Power iteration from the token that lies farthest from the mean: no random start, no decomposition on the host, a dozen
    matrix-vector products. Every image has a component of its own, so the result does not depend on its neighbours in the batch.
    """
    centred = tokens.float() - tokens.float().mean(1, keepdim=True)
    farthest = centred.square().sum(2).argmax(1)
    direction = centred[torch.arange(centred.shape[0], device=centred.device), farthest].unsqueeze(2)
    for _ in range(ITERATIONS):
        direction = torch.nn.functional.normalize(direction, dim=1)
        direction = centred.transpose(1, 2) @ (centred @ direction)
    return (centred @ torch.nn.functional.normalize(direction, dim=1)).squeeze(2)


@torch.no_grad()
def foreground_score(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much a token differs from the image's border, 0..1, `[B, 1, rows, columns]`.

    The sign of a principal component is arbitrary. Here high means unlike the border: what interests a photographer touches the
    frame less than the rest does. So the mask is the same in every run and with every linear-algebra library.
    """
    scores = principal_component(tokens).unflatten(1, grid)
    rows, columns = grid
    border = torch.ones(grid, device=scores.device)
    border[1 : rows - 1, 1 : columns - 1] = 0
    at_border = (scores * border).sum((1, 2)) / border.sum()  # weights, not an index: how many cells that are depends on the size
    spread = scores.amax((1, 2), keepdim=True) - scores.amin((1, 2), keepdim=True)
    towards_border = (at_border - scores.mean((1, 2)))[:, None, None] > MARGIN * spread
    scores = torch.where(towards_border, -scores, scores)
    low = scores.amin((1, 2), keepdim=True)
    return ((scores - low) / spread.clamp_min(torch.finfo(scores.dtype).tiny))[:, None]


@torch.no_grad()
def first_mask_logits(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Start masks of the foreground and the background query `[B, 2, rows, columns]`: positive where the query may look; the second
    is the complement of the first."""
    inside = foreground_score(tokens, grid) - THRESHOLD
    return torch.cat([inside, -inside], 1)
