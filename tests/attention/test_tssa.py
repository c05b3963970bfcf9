"""TSSA against the paper's equations (arXiv 2412.17810) on a state of the authors' module, written slowly."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from attngraft.attention import TSSA
from attngraft.attention.tssa import from_official
from tests.attention.slow import assert_same, official, parameters

C, HEADS, D = 6, 3, 2
SHAPES = {"qkv.weight": (C, C), "qkv.bias": (C,), "temp": (HEADS, 1), "to_out.0.weight": (C, C), "to_out.0.bias": (C,)}


def reference(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Equations 8 to 10: each cell is shared out among the heads, and each head shrinks its channels."""
    B, _, H, W = x.shape
    out = []
    for image in x.flatten(2):
        w = [state["qkv.weight"] @ cell + state["qkv.bias"] for cell in image.T]  # N vectors
        lengths = sum(cell**2 for cell in w) ** 0.5
        belongs = []
        for cell in w:
            parts = ((cell / lengths) ** 2).view(HEADS, D)
            powers = (state["temp"][:, 0] * parts.sum(1)).exp()
            belongs.append(powers / powers.sum())
        cells = [torch.zeros(C, dtype=x.dtype) for _ in w]
        for h in range(HEADS):
            own = slice(h * D, (h + 1) * D)
            total = sum(share[h] for share in belongs)
            moment = sum(share[h] / total * cell[own] ** 2 for share, cell in zip(belongs, w, strict=True))
            for n, (share, cell) in enumerate(zip(belongs, w, strict=True)):
                padded = torch.zeros(C, dtype=x.dtype)
                padded[own] = -share[h] * cell[own] / (1 + moment)
                cells[n] = cells[n] + padded
        out.append(torch.stack([state["to_out.0.weight"] @ cell + state["to_out.0.bias"] for cell in cells], 1))
    return torch.stack(out).view(B, C, H, W)


@pytest.mark.parametrize(("batch", "size"), [(1, (5, 3)), (3, (2, 7)), (1, (1, 1))])
def test_equals_the_paper(batch: int, size: tuple[int, int]) -> None:
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    assert_same(TSSA(C, heads=HEADS, qkv_bias=True), reference, official(SHAPES), x, from_official)


def test_a_map_of_zeros_has_a_gradient() -> None:
    x = torch.zeros(1, 16, 3, 5, requires_grad=True)
    TSSA(16)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_cells_shares_sum_to_one() -> None:
    """Without variation there is nothing to shrink, so the gate is the shares alone."""
    module = TSSA(8, heads=4)
    torch.nn.init.normal_(module.qkv.weight, std=1e-6)
    gate = module.gate_map(torch.randn(2, 8, 3, 5))[:, ::2]  # one channel a head
    torch.testing.assert_close(gate.sum(1), torch.ones(2, 3, 5))


def test_parameter_count_is_the_authors() -> None:
    assert parameters(TSSA(256)) == 2 * 256**2 + 256 + 8 == 131_336


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="TSSA needs channels divisible by heads, got channels=12 and heads=8"):
        TSSA(12)
