"""Small random detection problems in COCO's format, with everything that makes COCO's rules bite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest


class Problem(NamedTuple):
    """Ground truth and detections."""

    truth: dict[str, Any]
    predictions: list[dict[str, Any]]


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """Return a maker of random problems: crowds, sizes at their limits, wrong classes, ids and images out of order."""
    return _problem


def _problem(
    seed: int, *, images: int = 12, classes: int = 3, objects: int = 8, detections: int = 25, decimals: int = 6
) -> Problem:
    rng = np.random.default_rng(seed)
    ids = [int(i) for i in 7 * rng.permutation(images) + 3]
    categories = [{"id": 2 * c + 1, "name": f"class {c}"} for c in range(classes)]
    annotations: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for image in ids:
        boxes = [_box(rng) for _ in range(rng.integers(0, objects))]
        for box in boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": _category(rng, classes),
                    "bbox": box,
                    "area": box[2] * box[3] * rng.uniform(0.6, 1),
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
        here = [a for a in annotations if a["image_id"] == image]
        for _ in range(rng.integers(0, detections)):
            near = here[rng.integers(len(here))] if here and rng.random() < 0.7 else None
            box = np.array(near["bbox"] if near else _box(rng))
            box += rng.normal(0, 0.08, 4) * box[[2, 3, 2, 3]]
            predictions.append(
                {
                    "image_id": image,
                    "category_id": near["category_id"] if near and rng.random() < 0.9 else _category(rng, classes),
                    "bbox": [float(v) for v in np.maximum(box, [0, 0, 1, 1])],
                    "score": round(float(rng.uniform(0.01, 1)), decimals),
                }
            )
    order = rng.permutation(len(predictions))
    truth = {
        "images": [{"id": i, "width": 640, "height": 480, "file_name": f"{i}.jpg"} for i in ids],
        "categories": categories,
        "annotations": annotations,
    }
    return Problem(truth, [predictions[i] for i in order])


def _box(rng: np.random.Generator) -> list[float]:
    sides = rng.choice([12, 25, 40, 80, 150], 2) * rng.uniform(0.7, 1.3, 2)
    return [float(v) for v in (*rng.uniform(0, 300, 2), *sides)]


def _category(rng: np.random.Generator, classes: int) -> int:
    return 2 * int(rng.integers(classes)) + 1
