"""Checks an installed focus_ops: values and gradients of one small call against plain PyTorch. Needs nothing but torch."""

from __future__ import annotations

import focus_ops
import torch
from torch import Tensor
from torch.nn import functional as F

SHAPES = [(5, 7), (3, 2)]


def plain(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    heads: list[Tensor] = []
    for head in range(value.shape[2]):
        output = torch.zeros(())
        start = 0
        for level, (height, width) in enumerate(SHAPES):
            image = value[:, start : start + height * width, head].mT.unflatten(2, (height, width))
            start += height * width
            sampled = F.grid_sample(image, 2 * locations[:, :, head, level] - 1, align_corners=False)
            output = output + (sampled * weights[:, None, :, head, level]).sum(-1)
        heads.append(output)
    return torch.cat(heads, 1).mT


def main() -> None:
    torch.manual_seed(0)
    value = torch.randn(2, 41, 3, 5, dtype=torch.float64, requires_grad=True)
    locations = (torch.rand(2, 6, 3, 2, 4, 2, dtype=torch.float64) * 1.4 - 0.2).requires_grad_()
    weights = torch.rand(2, 6, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    inputs = (value, locations, weights)
    output, expected = focus_ops.deform_attn(value, SHAPES, locations, weights), plain(*inputs)
    torch.testing.assert_close(output, expected)
    probe = torch.randn_like(output)
    for ours, theirs in zip(torch.autograd.grad(output, inputs, probe), torch.autograd.grad(expected, inputs, probe), strict=True):
        torch.testing.assert_close(ours, theirs)
    print(f"focus_ops {focus_ops.__version__} works on torch {torch.__version__}: {focus_ops.build_info()}")


if __name__ == "__main__":
    main()
