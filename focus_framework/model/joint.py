"""Joint prediction: foreground and background decide each pixel together (docs/method.md, 10)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .ground_decoder import BACKGROUND, FOREGROUND

Rule = Literal["soft", "release", "foreground"]
CONFIDENT = 0.5


def semantic_maps(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Class logits `[B, Q, 3]` and mask logits `[B, Q, H, W]` to the evidence for foreground and background, `[B, 2, H, W]`: each
    query's mask, weighted by its probability of being that class."""
    return _weighted(class_logits, mask_logits.float().sigmoid())


def _weighted(class_logits: Tensor, masks: Tensor) -> Tensor:
    weights = class_logits.float().softmax(-1)[..., [FOREGROUND, BACKGROUND]]
    return torch.einsum("bqc,bqhw->bchw", weights, masks)


def soft_map(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """`p = P_f / (P_f + P_b)`, `[B, H, W]` in 0..1. Exchanging the meaning of the two classes gives `1 - p`; where nothing speaks
    for either class, p is one half.

    Both masks may be nearly nothing, and runtimes round that differently (onnxruntime's sigmoid ends at 1.5e-8). A common factor of a
    pixel's masks does not matter, so each is multiplied by e^-s, where s is the largest of the logits and 0 at most: the strongest is
    then one half at least."""
    logits = mask_logits.float()
    strongest = logits.amax(1, keepdim=True).clamp_max(0)
    masks = 1 / (strongest.exp() + (strongest - logits).exp())
    foreground, background = _weighted(class_logits, masks).unbind(1)
    tiny = torch.finfo(foreground.dtype).tiny
    return (foreground + tiny) / (foreground + background + 2 * tiny)


def foreground_map(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """The ablation without joint prediction: the mask of the query that is most probably foreground, `[B, H, W]`."""
    best = class_logits.softmax(-1)[..., FOREGROUND].argmax(1)
    return _of_queries(mask_logits, best[:, None]).squeeze(1).float().sigmoid()


def release_mask(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """The release's hard rule, `[B, H, W]` of 0 and 1.

    A (query, class) entry counts if class probability times mask confidence exceeds one half. Where both classes are found, the
    foreground's mask must beat the background's; where not, the best entry alone decides.
    """
    scores = class_logits.float().softmax(-1)[..., [FOREGROUND, BACKGROUND]]
    masks = mask_logits.float().sigmoid()
    confidence = masks.square().sum((2, 3)) / (masks.sum((2, 3)) + 1e-6)
    scores = scores * confidence[..., None]
    best_score, best_query = scores.max(1)
    foreground, background = _of_queries(masks, best_query).unbind(1)
    joint = (foreground > background).float()
    alone = torch.where((best_score[:, 0] >= best_score[:, 1])[:, None, None], (foreground > 0.5).float(), (background < 0.5).float())
    both = (best_score > CONFIDENT).all(1)
    return torch.where(both[:, None, None], joint, alone)  # of numbers: onnxruntime has no choice between booleans


def _of_queries(masks: Tensor, queries: Tensor) -> Tensor:
    """Of masks `[B, Q, H, W]` those of some queries `[B, K]`, `[B, K, H, W]`. By index, since tracing an export stumbles over
    `take_along_dim`."""
    return masks[torch.arange(masks.shape[0], device=masks.device)[:, None], queries]


RULES = {"soft": soft_map, "release": release_mask, "foreground": foreground_map}


def join(class_logits: Tensor, mask_logits: Tensor, rule: Rule, *, temperature: float = 1.0) -> Tensor:
    """The map of interest `[B, H, W]` in 0..1 by the named rule, its log odds divided by `temperature`."""
    return with_temperature(RULES[rule](class_logits, mask_logits), temperature)


def with_temperature(probability: Tensor, temperature: float) -> Tensor:
    """Probabilities whose log odds are divided by `temperature` (Guo et al. 2017): below 1 sharper, above 1 softer. 0, one half and 1
    stay what they are, so a binary map does not change, nor does what lies above one half."""
    if temperature == 1:
        return probability
    inside, outside = probability ** (1 / temperature), (1 - probability) ** (1 / temperature)
    return inside / (inside + outside)
