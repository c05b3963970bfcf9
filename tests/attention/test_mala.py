"""MALA against the paper's equations (arXiv 2507.00698) on a state of the authors' module, written slowly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor

from attngraft.attention import MALA
from attngraft.attention.mala import from_official
from tests.attention.slow import assert_same, conv2d, official, parameters

C, HEADS, D = 16, 2, 8
SHAPES = {
    "qkvo.weight": (4 * C, C, 1, 1), "qkvo.bias": (4 * C,), "lepe.weight": (C, 1, 5, 5), "lepe.bias": (C,),
    "proj.weight": (C, C, 1, 1), "proj.bias": (C,),
}  # fmt: skip


def turned(vector: Tensor, row: int, column: int) -> Tensor:
    """Turn pairs of channels: those of the first half by the row, the others by the column."""
    out = []
    for pair in range(D // 2):
        speed = 10000.0 ** -(pair % (D // 4) / (D // 4 - 1))
        angle = (row if pair < D // 4 else column) * speed
        a, b = vector[2 * pair], vector[2 * pair + 1]
        out += [a * math.cos(angle) - b * math.sin(angle), b * math.cos(angle) + a * math.sin(angle)]
    return torch.stack(out)


def feature(vector: Tensor) -> Tensor:
    return torch.where(vector > 0, vector + 1, vector.exp())


def reference(x: Tensor, state: Mapping[str, Tensor], form: str) -> Tensor:
    """Equations 5 to 8, with the rotations, the convolution of the values and the gate of the authors' network."""
    H, W = x.shape[2:]
    cells = [(i, j) for i in range(H) for j in range(W)]
    qkvo = conv2d(x, state["qkvo.weight"], state["qkvo.bias"])
    local = conv2d(qkvo[:, 2 * C : 3 * C], state["lepe.weight"], state["lepe.bias"])
    out = []
    for image, near in zip(qkvo, local, strict=True):
        q, k, v, o = image.split(C)
        heads = []
        for h in range(HEADS):
            own = slice(h * D, (h + 1) * D)
            features = [{(i, j): feature(t[own, i, j]) for i, j in cells} for t in (q, k)]
            factor = 1 if form == "paper" else 1 / (len(cells) * D**0.5)
            mixed = []
            for i in cells:
                z = factor * sum(features[0][i] @ features[1][j] for j in cells)
                weights = [
                    factor * (turned(features[0][i], *i) @ turned(features[1][j], *j)) * (1 + 1 / (z + 1e-6))
                    - z / len(cells)
                    for j in cells
                ]
                mixed.append(sum(w * v[own, j[0], j[1]] for w, j in zip(weights, cells, strict=True)))
            heads.append(torch.stack(mixed, 1).view(D, H, W))
        out.append((torch.cat(heads) + near) * o)
    return conv2d(torch.stack(out), state["proj.weight"], state["proj.bias"])


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize(("batch", "size"), [(1, (3, 2)), (3, (1, 4)), (1, (1, 1))])
def test_equals_the_paper(batch: int, size: tuple[int, int], form: str) -> None:
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    module = MALA(C, heads=HEADS, form=form)
    assert_same(module, partial(reference, form=form), official(SHAPES), x, from_official)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_without_rotation_a_row_sums_to_one(form: str) -> None:
    """At one cell a turn changes no product, so the one weight is 1 but for the epsilon of the denominator."""
    rows = MALA(C, heads=HEADS, form=form).attention_rows(torch.randn(2, C, 1, 1))
    torch.testing.assert_close(rows, torch.ones(2, HEADS, 1, 1), atol=1e-5, rtol=0)


def test_a_longer_query_has_a_sharper_row() -> None:
    """What the paper corrects: in plain linear attention the length of the query cancels."""
    module, x = MALA(C, heads=1), torch.randn(1, C, 1, 9)
    rows = module.attention_rows(x)
    with torch.no_grad():
        module.qkvo.bias[:C] += 20
    assert module.attention_rows(x).std(3).min() > rows.std(3).max()


def test_parameter_count_is_the_authors() -> None:
    assert parameters(MALA(256)) == 5 * 256 * 257 + 256 * 26 == 335_616


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="MALA needs channels to be a multiple of 4, got 10; use 8 or 12"):
        MALA(10)
    with pytest.raises(ValueError, match=r"heads of a multiple of 4 channels, got 3 .* heads could be 6"):
        MALA(24)
