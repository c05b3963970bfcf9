"""SE against the paper's equations 2-4 (arXiv 1709.01507), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attngraft.attention import SE


def reference(x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        squeezed = [channel.sum().item() / channel.numel() for channel in image]
        hidden = [max(0.0, sum(w.item() * s for w, s in zip(row, squeezed, strict=True))) for row in w1]
        for c, row in enumerate(w2):
            logit = sum(w.item() * h for w, h in zip(row, hidden, strict=True))
            out[b, c] = image[c] / (1 + math.exp(-logit))
    return out


def test_equals_the_paper() -> None:
    module = SE(13, reduction=3).double()
    x = torch.randn(2, 13, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.squeeze.weight, module.excite.weight), atol=1e-12, rtol=0)


def test_parameter_count_is_the_closed_form() -> None:
    assert sum(p.numel() for p in SE(256, reduction=16).parameters()) == 2 * 256**2 // 16 == 8192


def test_biases_are_added_in_both_layers() -> None:
    module = SE(4, reduction=2, bias=True).double()
    with torch.no_grad():
        module.squeeze.weight.zero_()
        module.squeeze.bias.copy_(torch.tensor([1.0, -1.0]))
        hidden = torch.tensor([1.0, 0.0], dtype=torch.float64)
        gate = 1 / (1 + (-(module.excite.weight @ hidden + module.excite.bias)).exp())
        x = torch.randn(1, 4, 3, 2, dtype=torch.float64)
        torch.testing.assert_close(module(x), x * gate[:, None, None])


def test_a_reduction_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="reduction of at most 8 .* channels=8, got 16"):
        SE(8, reduction=16)
