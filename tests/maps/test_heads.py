"""The atlas of heads against heads whose numbers are known."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn

from attngraft import maps
from attngraft._core.errors import MapError
from tests.maps.beacons import ATTENTION, scenes, tensors, watched


class FrozenPlan(nn.Module):
    """Three heads: one that looks at its own cell, one at all cells alike, one at the first cell."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def attention_rows(self, x: Tensor, cells: Tensor) -> Tensor:
        N = x.shape[2] * x.shape[3]
        own = nn.functional.one_hot(cells, N).to(x)  # (B, Q, N)
        first = torch.zeros_like(own)
        first[..., 0] = 1
        return torch.stack([own, torch.full_like(own, 1 / N), first], 1)


def test_heads_whose_numbers_are_known() -> None:
    images = torch.randn(2, 3, 4, 6)  # cells are pixels
    boxes = [[(1.0, 1, 3, 3), (0.0, 0, 1, 1)], [(4.0, 2, 6, 4)]]
    found = maps.atlas(FrozenPlan().eval(), [(images, boxes), (images, [[], []])])
    own, flat, first = found.heads
    assert [h.objects for h in found.heads] == [3, 3, 3]
    assert (own.distance, own.entropy, own.own) == (0, 0, 1)
    assert flat.entropy == pytest.approx(1)
    assert flat.own == pytest.approx((4 / 24 + 1 / 24 + 4 / 24) / 3)
    assert flat.others == pytest.approx((1 / 24 + 4 / 24 + 0) / 3)
    assert flat.own + flat.others + flat.background == pytest.approx(1)
    assert first.distance == pytest.approx((math.hypot(2, 2) + 0 + math.hypot(5, 3)) / 3)
    assert (first.own, first.others) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    agreement = found.agreement[""]
    assert [agreement[i][i] for i in range(3)] == pytest.approx([1, 1, 1])
    assert agreement[0][2] == pytest.approx(1 / 3)  # the same only for the object in the first cell
    assert agreement[0][1] == agreement[1][0] < 0.6
    assert json.loads(found.to_json())["heads"][1]["head"] == 1


def test_the_head_that_sees_the_beacon_looks_far() -> None:
    detector = watched("global")
    batches = [(tensors(16), [[tuple(map(float, t.area)) for t in s.things] for s in scenes(16)])]
    heads = maps.atlas(detector.network, batches).heads  # type: ignore[arg-type]
    assert {h.layer for h in heads} == {ATTENTION}
    farthest = max(heads, key=lambda h: h.distance)
    keeps = max(heads, key=lambda h: h.own)
    assert farthest.distance > 40
    assert farthest.head != keeps.head
    assert keeps.distance < farthest.distance


def test_nothing_to_look_at() -> None:
    with pytest.raises(MapError, match="one of them is missing"):
        maps.atlas(FrozenPlan().eval(), [(torch.randn(1, 3, 4, 4), [[]])])
