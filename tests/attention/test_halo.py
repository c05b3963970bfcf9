"""Halo attention against the paper's equations (arXiv 2103.12731), written slowly, and against timm."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor

from attngraft.attention import HaloAttention
from attngraft.attention.halo import from_timm
from tests.attention.slow import assert_same, official, parameters

C, HEADS, D, M, HALO = 6, 2, 3, 2, 1
ROWS = M + M + 2 * HALO - 1
SHAPES = {"qkv.weight": (3 * C, C), "height_table": (ROWS, D), "width_table": (ROWS, D)}


def reference(x: Tensor, state: Mapping[str, Tensor], border: str, scaled: bool) -> Tensor:
    """Equation 1, neighbours being the block of a cell and a band around it, with relative positions."""
    H, W = x.shape[2:]
    out = []
    for image in x:
        q, k, v = torch.einsum("oc,chw->ohw", state["qkv.weight"], image).split(C)
        zeros = torch.zeros(C, dtype=x.dtype)
        cells = []
        for i in range(H):
            for j in range(W):
                near = [
                    (y, z)
                    for y in range(i // M * M - HALO, i // M * M + M + HALO)
                    for z in range(j // M * M - HALO, j // M * M + M + HALO)
                ]
                inside = [0 <= y < H and 0 <= z < W for y, z in near]
                heads = []
                for h in range(HEADS):
                    own = slice(h * D, (h + 1) * D)
                    query = q[own, i, j]
                    total, mixed = torch.zeros((), dtype=x.dtype), torch.zeros(D, dtype=x.dtype)
                    for (y, z), there in zip(near, inside, strict=True):
                        if border == "mask" and not there:
                            continue
                        key, value = (k[:, y, z], v[:, y, z]) if there else (zeros, zeros)
                        place = state["height_table"][y - i + HALO + M - 1] + state["width_table"][z - j + HALO + M - 1]
                        logit = query @ key[own] / D**0.5 + query @ place / (D**0.5 if scaled else 1)
                        total, mixed = total + logit.exp(), mixed + logit.exp() * value[own]
                    heads.append(mixed / total)
                cells.append(torch.cat(heads))
        out.append(torch.stack(cells, 1).view(C, H, W))
    return torch.stack(out)


@pytest.mark.parametrize(("border", "scaled"), [("mask", True), ("zero", False)])
@pytest.mark.parametrize(("batch", "size"), [(1, (4, 2)), (3, (3, 5)), (1, (1, 1))])
def test_equals_the_paper(batch: int, size: tuple[int, int], border: str, scaled: bool) -> None:
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    module = HaloAttention(C, heads=HEADS, window=M, halo=HALO, scale_positions=scaled, border=border)
    assert_same(module, partial(reference, border=border, scaled=scaled), official(SHAPES), x, dict)


def test_equals_timm() -> None:
    layers = pytest.importorskip("timm.layers.halo_attn")
    theirs = layers.HaloAttn(32, num_heads=4, block_size=4, halo_size=2).double()
    ours = HaloAttention(32, heads=4, window=4, halo=2, scale_positions=False, border="zero").double()
    ours.load_state_dict(from_timm(theirs.state_dict(), heads=4, halo=2))
    x = torch.randn(2, 32, 8, 12, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-12, rtol=0)


def test_a_cell_sees_its_block_and_the_halo() -> None:
    x = torch.randn(1, 8, 12, 12, requires_grad=True)
    HaloAttention(8, window=4, halo=2)(x)[0, :, 5, 6].sum().backward()
    assert x.grad is not None
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[2:10, 2:10] = True
    assert torch.equal(x.grad[0].abs().sum(0) > 0, expected)


def test_parameter_count_is_the_closed_form() -> None:
    C, d = 256, 32
    assert parameters(HaloAttention(C)) == 3 * C**2 + 2 * (8 + 14 - 1) * d == 197_952


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="HaloAttention needs a halo of at least 0 cells, got -1"):
        HaloAttention(64, halo=-1)
    with pytest.raises(ValueError, match="channels divisible by heads, got channels=12 and heads=8"):
        HaloAttention(12)
