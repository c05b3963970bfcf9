"""Cascaded group attention against the paper's equations (arXiv 2305.07027) on a state of the authors' module."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor

from attngraft.attention import CascadedGroupAttention
from attngraft.attention.cascaded_group import from_official
from tests.attention.slow import assert_same, conv2d, norm_shapes, normed, official, parameters

C, HEADS, KEY, D, M = 6, 2, 3, 3, 2
SIZES = (3, 5)
SHAPES = {
    **{f"qkvs.{i}.c.weight": (2 * KEY + D, D, 1, 1) for i in range(HEADS)},
    **norm_shapes("qkvs.0.bn", 2 * KEY + D), **norm_shapes("qkvs.1.bn", 2 * KEY + D),
    **{f"dws.{i}.c.weight": (KEY, 1, k, k) for i, k in enumerate(SIZES)},
    **norm_shapes("dws.0.bn", KEY), **norm_shapes("dws.1.bn", KEY),
    "attention_biases": (HEADS, M * M), "proj.1.c.weight": (C, C, 1, 1), **norm_shapes("proj.1.bn", C),
}  # fmt: skip


def reference(x: Tensor, state: Mapping[str, Tensor], border: str) -> Tensor:
    """Equations 1 and 2 within each window, cut out of the map; windows at the end are filled up or smaller."""
    H, W = x.shape[2:]
    down, right = (-H % M, -W % M) if border == "zero" else (0, 0)
    x = torch.cat((x, x.new_zeros(len(x), C, down, W)), 2)
    x = torch.cat((x, x.new_zeros(len(x), C, H + down, right)), 3)
    bands = []
    for top in range(0, H + down, M):
        tiles = [window(x[:, :, top : top + M, left : left + M], state) for left in range(0, W + right, M)]
        bands.append(torch.cat(tiles, 3))
    return torch.cat(bands, 2)[:, :, :H, :W]


def window(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """The authors' module on a map no larger than its resolution."""
    height, width = x.shape[2:]
    cells = [(i, j) for i in range(height) for j in range(width)]
    found: list[Tensor] = []
    for h in range(HEADS):
        share = x[:, h * D : (h + 1) * D]
        features = conv2d(share + found[-1] if found else share, state[f"qkvs.{h}.c.weight"])
        q, k, v = normed(features, state, f"qkvs.{h}.bn").split([KEY, KEY, D], 1)
        q = normed(conv2d(q, state[f"dws.{h}.c.weight"]), state, f"dws.{h}.bn")
        images = []
        for b in range(len(x)):
            mixed = []
            for i, j in cells:
                logits = [
                    q[b, :, i, j] @ k[b, :, y, z] / KEY**0.5 + state["attention_biases"][h, abs(i - y) * M + abs(j - z)]
                    for y, z in cells
                ]
                weights = torch.stack(logits).exp()
                mixed.append(sum(w / weights.sum() * v[b, :, y, z] for w, (y, z) in zip(weights, cells, strict=True)))
            images.append(torch.stack(mixed, 1).view(D, height, width))
        found.append(torch.stack(images))
    return normed(conv2d(torch.cat(found, 1).clamp(min=0), state["proj.1.c.weight"]), state, "proj.1.bn")


@pytest.mark.parametrize("border", ["mask", "zero"])
@pytest.mark.parametrize(("batch", "size"), [(1, (4, 2)), (3, (3, 5)), (1, (1, 1))])
def test_equals_the_paper(batch: int, size: tuple[int, int], border: str) -> None:
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    module = CascadedGroupAttention(C, key_dim=KEY, heads=HEADS, window=M, kernel_sizes=SIZES, border=border)
    assert_same(module, partial(reference, border=border), official(SHAPES), x, from_official)


def test_parameter_count_is_the_authors() -> None:
    C, h, key, d = 256, 4, 16, 64
    heads = h * ((2 * key + d) * (d + 2) + key * (25 + 2))
    assert parameters(CascadedGroupAttention(C)) == heads + h * 49 + C * (C + 2) == 93_316


def test_filling_takes_no_part_in_the_norms() -> None:
    """On a map of ones all cells are alike, so the norms of training give zeros, unless others are among them."""
    module = CascadedGroupAttention(8, window=4).train()
    module(torch.ones(1, 8, 5, 3))
    assert torch.allclose(module.qkv[0][1].running_var, torch.full((34,), 0.9), atol=1e-6)


def test_zero_init_starts_at_nothing() -> None:
    assert not CascadedGroupAttention(16, zero_init=True)(torch.randn(2, 16, 3, 5)).any()


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one of kernel_sizes, or one for each of 4 heads, got \(3, 5\)"):
        CascadedGroupAttention(16, kernel_sizes=(3, 5))
    with pytest.raises(ValueError, match="needs an odd kernel_size to keep the map's size, got 4; use 3 or 5"):
        CascadedGroupAttention(16, kernel_sizes=(4,))
