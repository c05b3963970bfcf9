"""Where a detection stands on a map, and what became of detections."""

from __future__ import annotations

import pytest
import torch

from attngraft import maps
from attngraft.maps import Detection


def found(label: int, score: float, *box: float, image: int = 0) -> Detection:
    return Detection(image, 0, label, score, box, (0.0, 0.0))  # type: ignore[arg-type]


def test_cells_on_rectangular_maps() -> None:
    assert maps.cell_at((0, 0), (64, 96), (4, 6)) == 0
    assert maps.cell_at((95, 63), (64, 96), (4, 6)) == 23
    assert maps.cell_at((17, 40), (64, 96), (4, 6)) == 2 * 6 + 1
    assert maps.cell_at((-5, 999), (64, 96), (4, 6)) == 3 * 6
    assert maps.cells_in((10, 0, 60, 30), (64, 96), (4, 6)) == [1, 2, 3, 7, 8, 9]  # centres at 8, 24, 40, 56
    assert maps.cells_in((50, 50, 51, 51), (64, 96), (4, 6)) == [3 * 6 + 3]
    assert maps.cells_in((0, 0, 1, 1), (1, 1), (1, 1)) == [0]


def test_coverage_sums_to_the_area_of_the_box() -> None:
    box = (13.5, 4.0, 51.25, 47.0)
    covered = maps.coverage(box, (64, 96), (5, 7))
    assert float(covered.sum()) * (64 / 5) * (96 / 7) == pytest.approx((51.25 - 13.5) * (47 - 4))
    assert covered.min() >= 0
    assert covered.max() <= 1


def test_iou_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 0, 0]])
    others = torch.tensor([[1.0, 0, 3, 2], [5, 5, 6, 6], [0, 0, 2, 2], [0, 0, 0, 0]])
    expected = torch.tensor([[1 / 3, 0, 1, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(maps.intersection_over_union(boxes, others), expected)
    large = torch.tensor([[0.0, 0, 640, 640]]).half()
    assert maps.intersection_over_union(large, large / 2).tolist() == [[0.25]]


class TestCompare:
    def test_kept_gone_and_new(self) -> None:
        before = [found(0, 0.9, 0, 0, 10, 10), found(1, 0.8, 20, 20, 30, 30), found(0, 0.5, 50, 50, 60, 60)]
        after = [found(0, 0.7, 0, 0, 10, 9), found(0, 0.6, 20, 20, 30, 30)]
        changes = maps.compare(before, after)
        assert [(c.kind, round(c.score, 6), round(c.iou, 6)) for c in changes] == [
            ("kept", -0.2, 0.9), ("gone", -0.8, 0.0), ("gone", -0.5, 0.0), ("new", 0.6, 0.0),
        ]  # fmt: skip
        assert changes[0].after is after[0]
        assert changes[3].before is None

    def test_the_largest_overlap_pairs_first_and_images_do_not_mix(self) -> None:
        before = [found(0, 0.9, 0, 0, 10, 10), found(0, 0.8, 0, 0, 10, 8)]
        after = [found(0, 0.7, 0, 0, 10, 8), found(0, 0.6, 0, 0, 10, 10, image=1)]
        changes = maps.compare(before, after)
        assert [c.kind for c in changes] == ["gone", "kept", "new"]

    def test_nothing_to_compare(self) -> None:
        assert maps.compare([], []) == []
        assert [c.kind for c in maps.compare([], [found(0, 1, 0, 0, 1, 1)])] == ["new"]
