"""MSLA against the paper's equations (arXiv 2505.18823) on a state of the authors' module, written slowly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor

from attngraft.attention import MSLA
from attngraft.attention.msla import from_official
from tests.attention.slow import assert_same, conv2d, official, parameters

C, PART = 16, 4
SHAPES = {
    **{f"dw_conv_{k}x{k}.depthwise.weight": (PART, 1, k, k) for k in (3, 5, 7, 9)},
    **{f"dw_conv_{k}x{k}.depthwise.bias": (PART,) for k in (3, 5, 7, 9)},
    "linear_attention.qkv.weight": (3 * PART, PART), "linear_attention.proj.weight": (PART, PART),
    "linear_attention.proj.bias": (PART,), "final_conv.weight": (C, C, 1, 1), "final_conv.bias": (C,),
    "scale_weights": (4,),
}  # fmt: skip


def softmax(x: Tensor, dim: int) -> Tensor:
    return x.exp() / x.exp().sum(dim, keepdim=True)


def reference(x: Tensor, state: Mapping[str, Tensor], heads: int, form: str) -> Tensor:
    """Equations 3 to 6: each quarter is convolved at its size, attends over the map and gets its weight."""
    H, W = x.shape[2:]
    parts = []
    for i, k in enumerate((3, 5, 7, 9)):
        part = x[:, i * PART : (i + 1) * PART]
        name = f"dw_conv_{k}x{k}.depthwise"
        part = (part + conv2d(part, state[f"{name}.weight"], state[f"{name}.bias"])).clamp(min=0)
        images = []
        for image in part.flatten(2):
            q, key, v = (state["linear_attention.qkv.weight"] @ image).split(PART)
            rows = []
            for q_h, k_h, v_h in zip(*(t.chunk(heads) for t in (q, key, v)), strict=True):
                over_channels, over_cells = (q_h, k_h) if form == "paper" else (k_h, q_h)
                first, second = softmax(over_channels, 0), softmax(over_cells, 1)
                queries, keys = (first, second) if form == "paper" else (second, first)
                rows.append(v_h @ (keys.T @ queries))  # all weights of all cells
            mixed = (
                state["linear_attention.proj.weight"] @ torch.cat(rows) + state["linear_attention.proj.bias"][:, None]
            )
            images.append(mixed.view(PART, H, W) * state["scale_weights"][i])
        parts.append(torch.stack(images))
    return conv2d(torch.cat(parts, 1), state["final_conv.weight"], state["final_conv.bias"])


@pytest.mark.parametrize(("heads", "form"), [(1, "paper"), (2, "paper"), (1, "code")])
@pytest.mark.parametrize(("batch", "size"), [(1, (4, 3)), (3, (1, 5)), (1, (1, 1))])
def test_equals_the_paper(batch: int, size: tuple[int, int], heads: int, form: str) -> None:
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    slow = partial(reference, heads=heads, form=form)
    assert_same(MSLA(C, heads=heads, form=form), slow, official(SHAPES), x, from_official)


def test_parameter_count_is_the_authors() -> None:
    C, part = 256, 64
    local = part * (9 + 25 + 49 + 81 + 4)
    assert parameters(MSLA(C)) == local + 3 * part**2 + part * (part + 1) + C * (C + 1) + 4 == 92_996


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="MSLA needs channels to be a multiple of 4, got 6; use 4 or 8"):
        MSLA(6)
    with pytest.raises(ValueError, match=r"MSLA \(each quarter\) needs channels divisible by heads, got channels=4"):
        MSLA(16, heads=3)
