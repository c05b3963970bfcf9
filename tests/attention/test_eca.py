"""ECA against the paper's equations 5-12 (arXiv 1910.03151), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attngraft.attention import ECA


def reference(x: Tensor, weight: Tensor) -> Tensor:
    """Compute omega_c = sigmoid(sum_j w_j mean(x_{c+j-k//2})), channels outside the map counting as zero."""
    B, C, H, W = x.shape
    k = len(weight)
    out = torch.empty_like(x)
    for b in range(B):
        means = [sum(x[b, c, i, j].item() for i in range(H) for j in range(W)) / (H * W) for c in range(C)]
        for c in range(C):
            logit = sum(weight[j].item() * means[c + j - k // 2] for j in range(k) if 0 <= c + j - k // 2 < C)
            out[b, c] = x[b, c] / (1 + math.exp(-logit))
    return out


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_equals_the_paper(kernel_size: int) -> None:
    module = ECA(11, kernel_size=kernel_size).double()
    x = torch.randn(2, 11, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module.conv.weight[0, 0]), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("channels", "size"), [(16, 3), (64, 3), (96, 3), (128, 5), (256, 5), (1024, 5), (2048, 7)])
def test_adaptive_kernel_size_is_the_papers(channels: int, size: int) -> None:
    module = ECA(channels)
    assert module.kernel_size == size
    assert sum(p.numel() for p in module.parameters()) == size


def test_an_even_kernel_is_refused_with_its_neighbours() -> None:
    with pytest.raises(ValueError, match="odd kernel_size.*got 4; use 3 or 5"):
        ECA(64, kernel_size=4)
