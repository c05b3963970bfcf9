"""CAFM against the paper's equations (arXiv 2403.10067) on a state of the authors' module, written slowly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor

from attngraft.attention import CAFM
from attngraft.attention.cafm import from_official
from tests.attention.slow import assert_same, conv2d, official, parameters

C, HEADS, D = 6, 2, 3
SHAPES = {
    "qkv.weight": (3 * C, C, 1, 1, 1), "qkv_dwconv.weight": (3 * C, 1, 3, 3, 3), "temperature": (HEADS, 1, 1),
    "fc.weight": (9, 3 * HEADS, 1, 1, 1), "fc.bias": (9,), "dep_conv.weight": (C, 9, 3, 3, 3), "dep_conv.bias": (C,),
    "project_out.weight": (C, C, 1, 1, 1),
}  # fmt: skip


def reference(x: Tensor, state: Mapping[str, Tensor], form: str) -> Tensor:
    """Equations 1 to 4: convolved mixtures of queries, keys and values, plus attention among channels."""
    H, W = x.shape[2:]
    qkv = conv2d(conv2d(x, state["qkv.weight"][:, :, 0]), state["qkv_dwconv.weight"][:, :, 1])
    mixed, planes = [], []
    for image in qkv:
        memory = image.flatten()
        plane = []
        for e in range(D):
            for tap in range(9):
                cells = []
                for n in range(H * W):
                    parts = [
                        memory[n * 3 * C + j * D + e] if form == "code" else image[j * D + e].flatten()[n]
                        for j in range(3 * HEADS)
                    ]
                    cells.append(torch.stack(parts) @ state["fc.weight"][tap, :, 0, 0, 0] + state["fc.bias"][tap])
                plane.append(torch.stack(cells).view(H, W))
        planes.append(torch.stack(plane))
        q, k, v = image.flatten(1).split(C)
        rows = []
        for c in range(C):
            head = range(c // D * D, c // D * D + D)
            logits = torch.stack([q[c] @ k[e] / (q[c] @ q[c] * (k[e] @ k[e])) ** 0.5 for e in head])
            weights = (logits * state["temperature"][c // D, 0, 0]).exp()
            rows.append(sum(w / weights.sum() * v[e] for w, e in zip(weights, head, strict=True)))
        mixed.append(torch.stack(rows).view(C, H, W))
    local = conv2d(torch.stack(planes), state["dep_conv.weight"][:, :, 1], state["dep_conv.bias"])
    return conv2d(torch.stack(mixed), state["project_out.weight"][:, :, 0]) + local


@pytest.mark.parametrize("form", ["paper", "code"])
@pytest.mark.parametrize(("batch", "size"), [(1, (4, 3)), (3, (1, 5)), (1, (1, 1))])
def test_equals_the_paper(batch: int, size: tuple[int, int], form: str) -> None:
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    module = CAFM(C, heads=HEADS, form=form)
    assert_same(module, partial(reference, form=form), official(SHAPES), x, from_official)


def test_a_map_of_zeros_has_a_gradient() -> None:
    x = torch.zeros(1, 16, 3, 5, requires_grad=True)
    CAFM(16)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_parameter_count_is_the_authors_without_the_outer_slices() -> None:
    C, h = 256, 8
    assert parameters(CAFM(C)) == 4 * C**2 + 27 * C + h + 9 * (3 * h + 1) + 82 * C == 290_281


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="CAFM needs channels divisible by heads, got channels=12 and heads=8"):
        CAFM(12)
