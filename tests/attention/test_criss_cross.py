"""Criss-cross attention against the paper's equations (arXiv 1811.11721) on a state of the authors' module."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from attngraft.attention import CrissCrossAttention
from attngraft.attention.criss_cross import from_official
from tests.attention.slow import assert_same, conv2d, official, parameters

C, KEY = 5, 2
SHAPES = {
    "query_conv.weight": (KEY, C, 1, 1), "query_conv.bias": (KEY,), "key_conv.weight": (KEY, C, 1, 1),
    "key_conv.bias": (KEY,), "value_conv.weight": (C, C, 1, 1), "value_conv.bias": (C,), "gamma": (1,),
}  # fmt: skip


def reference(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Equations 1 and 2: affinity and aggregation over the H + W - 1 cells of the cross."""
    H, W = x.shape[2:]
    q, k, v = (
        conv2d(x, state[f"{part}_conv.weight"], state[f"{part}_conv.bias"]) for part in ("query", "key", "value")
    )
    out = []
    for b in range(len(x)):
        cells = []
        for i in range(H):
            for j in range(W):
                cross = [(y, j) for y in range(H)] + [(i, z) for z in range(W) if z != j]
                weights = torch.stack([(q[b, :, i, j] @ k[b, :, y, z]).exp() for y, z in cross])
                cells.append(sum(w / weights.sum() * v[b, :, y, z] for w, (y, z) in zip(weights, cross, strict=True)))
        out.append(torch.stack(cells, 1).view(C, H, W))
    return torch.stack(out)


@pytest.mark.parametrize(("batch", "size"), [(1, (5, 3)), (3, (2, 7)), (1, (1, 4)), (1, (4, 1)), (2, (1, 1))])
def test_equals_the_paper(batch: int, size: tuple[int, int]) -> None:
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    assert_same(CrissCrossAttention(C, reduction=2), reference, official(SHAPES), x, from_official)


def test_a_cell_sees_its_cross_alone() -> None:
    x = torch.randn(1, 8, 5, 7, requires_grad=True)
    CrissCrossAttention(8)(x)[0, :, 1, 4].sum().backward()
    assert x.grad is not None
    seen = x.grad[0].abs().sum(0) > 0
    expected = torch.zeros(5, 7, dtype=torch.bool)
    expected[1], expected[:, 4] = True, True
    assert torch.equal(seen, expected)


def test_parameter_count_is_the_authors_without_gamma() -> None:
    C, key = 256, 32
    assert parameters(CrissCrossAttention(C)) == (C + 1) * (2 * key + C) == 82_240


def test_a_reduction_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="CrissCrossAttention needs reduction of at most 4 .* got 8"):
        CrissCrossAttention(4)
