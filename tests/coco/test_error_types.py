"""TIDE's error types on hand-made pictures of one object each."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from attngraft.coco.error_types import error_types
from attngraft.study import ErrorTypes

BOX = [10.0, 10.0, 50.0, 50.0]
HALF = [10.0, 10.0, 50.0, 20.0]  # overlaps BOX by 0.4
ELSEWHERE = [120.0, 120.0, 50.0, 50.0]


def errors(detections: Sequence[tuple[int, list[float], float]], *, crowd: int = 0, objects: int = 1) -> ErrorTypes:
    boxes = [BOX, [100.0, 10.0, 40.0, 40.0]][:objects]
    truth = {
        "images": [{"id": 1, "width": 200, "height": 200, "file_name": "1.jpg"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": b, "area": b[2] * b[3], "iscrowd": crowd}
            for i, b in enumerate(boxes)
        ],
    }
    return error_types(truth, [{"image_id": 1, "category_id": c, "bbox": b, "score": s} for c, b, s in detections])


@pytest.mark.parametrize(
    ("detections", "expected", "cost"),
    [
        ([(1, BOX, 0.9)], {}, {}),
        ([(2, BOX, 0.9)], {"classification": 1}, {"classification": 100}),
        ([(1, HALF, 0.9)], {"localisation": 1}, {"localisation": 100}),
        ([(2, HALF, 0.9)], {"both": 1, "missed": 1}, {}),
        ([(1, BOX, 0.9), (1, [11.0, 10.0, 50.0, 50.0], 0.8)], {"duplicate": 1}, {}),
        ([(1, BOX, 0.8), (1, [11.0, 10.0, 50.0, 50.0], 0.9)], {"duplicate": 1}, {}),
        ([(1, ELSEWHERE, 0.9), (1, BOX, 0.8)], {"background": 1}, {"background": 50}),
        ([], {"missed": 1}, {}),
    ],
)
def test_each_type(detections: list, expected: dict[str, int], cost: dict[str, float]) -> None:
    found = errors(detections)
    assert {name: count for name, count in found.counts.items() if count} == expected
    assert {name: round(value, 6) for name, value in found.costs.items() if round(value, 6)} == cost


def test_a_missed_object_costs_its_recall() -> None:
    found = errors([(1, BOX, 0.9)], objects=2)
    assert found.counts["missed"] == 1
    assert found.ap50 == pytest.approx(100 * 51 / 101)
    assert found.costs["missed"] == pytest.approx(100 * 50 / 101)


def test_a_crowd_makes_no_errors() -> None:
    assert not any(errors([(1, BOX, 0.9), (1, HALF, 0.8)], crowd=1).counts.values())


def test_a_low_score_is_no_error() -> None:
    assert not any(errors([(1, BOX, 0.9), (1, ELSEWHERE, 0.0005)]).counts.values())
