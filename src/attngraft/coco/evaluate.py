"""One evaluator for every arm: COCO's numbers of a run, and the match table that the bootstrap lives on.

Loading, mask decoding, IoU and the greedy matching with its crowd and ignore rules are hotcoco's (MIT), whose curves
equal pycocotools' bit for bit; docs/decisions/0003-evaluator.md says why it and not another, and pycocotools stands in
where it is not installed. Here its matches become a
table and the table becomes numbers, so that the numbers of a run and of its resamples come from one place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft._core.errors import DataError
from attngraft.coco.average_precision import METRICS, Floats, average_precision, mean_over_classes
from attngraft.coco.files import read_json
from attngraft.coco.libraries import Dataset, Task, library
from attngraft.coco.matches import CONFIDENCE, IOU_THRESHOLDS, SIZES, Matches
from attngraft.coco.metrics import RECALLS, metric_values
from attngraft.coco.truth import uniform

BATCH = 100
"""Images whose matches are taken out of the library at once; hotcoco's records weigh about 1 MB an image."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one run scored.

    Attributes:
        numbers: COCO's twelve, as fractions, under the names AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm
            and ARl; NaN where COCO prints -1, that is where no object is of that size.
        per_class: AP of each class at each of `SIZES`, as fractions, ``(C, 4)``; NaN where it has no object.
        matches: The match table.
    """

    numbers: dict[str, float]
    per_class: Floats
    matches: Matches


def evaluate(
    truth: str | Path | Mapping[str, Any],
    predictions: str | Path | Sequence[Mapping[str, Any]],
    *,
    task: Task = "bbox",
    confidence: float = CONFIDENCE,
) -> Evaluation:
    """Evaluate the predictions of one run by the COCO rule, at most 100 detections an image and class.

    Args:
        truth: Ground truth in COCO's format, a file or its content.
        predictions: Detections in COCO's results format, a file or its content.
        task: Whether boxes or masks are compared.
        confidence: Detections of a lower score are left out.

    Raises:
        DataError: If a detection names an unknown image or class, or has no usable score, or the ground truth has ids
            that are no numbers.

    Example:
        >>> image = {"id": 1, "width": 100, "height": 100, "file_name": "1.jpg"}
        >>> box = {"image_id": 1, "category_id": 7, "bbox": [10, 10, 50, 50]}
        >>> truth = {
        ...     "images": [image],
        ...     "categories": [{"id": 7, "name": "cat"}],
        ...     "annotations": [{"id": 1, "area": 2500, "iscrowd": 0, **box}],
        ... }
        >>> result = evaluate(truth, [{"score": 0.9, **box}])
        >>> round(result.numbers["AP"], 6), result.matches.classes.tolist()
        (1.0, ['cat'])
    """
    matched = match(truth, predictions, task=task, confidence=confidence)
    return Evaluation(*summarize(matched), matched)


def summarize(matches: Matches) -> tuple[dict[str, float], Floats]:
    """Return COCO's twelve numbers and the AP ``(C, 4)`` of each class at each size, from a match table."""
    ap = {size: average_precision(matches, size=size) for size in SIZES}  # each (C, 10, 1)
    numbers = {name: mean_over_classes(ap[size][:, part].mean(1))[0] / 100 for name, (size, part) in METRICS.items()}
    numbers |= {name: metric_values(matches, name)[0] / 100 for name in RECALLS}
    return {name: float(value) for name, value in numbers.items()}, np.stack([ap[s].mean((1, 2)) for s in SIZES], 1)


def match(
    truth: str | Path | Mapping[str, Any],
    predictions: str | Path | Sequence[Mapping[str, Any]],
    *,
    task: Task = "bbox",
    confidence: float = CONFIDENCE,
) -> Matches:
    """Match detections to objects and keep the result as a table; the arguments are those of `evaluate`."""
    objects = load_truth(truth, task)
    detections = load_predictions(predictions, objects, confidence, task)
    images, categories = sorted(objects.imgs), sorted(objects.cats)
    table = _Table(images, categories)
    for start in range(0, len(images), BATCH):
        for cell in library().cells(objects, detections, task, images[start : start + BATCH]):
            table.add(cell)
    return table.build([str(objects.cats[category].get("name", category)) for category in categories])


def load_truth(truth: str | Path | Mapping[str, Any], task: Task = "bbox") -> Dataset:
    """Read ground truth.

    Raises:
        DataError: If it cannot be read, has no image or no class, or ids that are no numbers.
    """
    objects = library().truth(uniform(truth, task))
    if not objects.imgs or not objects.cats:
        raise DataError(
            f"ground truth needs images and categories, got {len(objects.imgs)} and {len(objects.cats)}; "
            "check that the file is in COCO's instances format"
        )
    return objects


def load_predictions(
    predictions: str | Path | Sequence[Mapping[str, Any]],
    objects: Dataset,
    confidence: float = CONFIDENCE,
    task: Task = "bbox",
) -> Dataset:
    """Check detections against the ground truth, and leave out those below ``confidence``.

    The size of a mask is its own area: COCO's libraries take that of a box that is beside it, so boxes are left out.

    Raises:
        DataError: If one names an unknown image or class, or has no usable score.
    """
    found = read_json(Path(predictions), list) if isinstance(predictions, (str, Path)) else predictions
    images, categories = set(objects.imgs), set(objects.cats)
    for index, detection in enumerate(found):
        if not isinstance(detection, Mapping) or not (_is_box(detection.get("bbox")) or "segmentation" in detection):
            raise DataError(f"detection {index} needs a bbox of four numbers or a segmentation, got {detection!r:.200}")
        if detection.get("image_id") not in images:
            raise DataError(
                f"detection {index} is of image {detection.get('image_id')!r}, which the ground truth lacks"
            )
        if detection.get("category_id") not in categories:
            raise DataError(
                f"detection {index} is of class {detection.get('category_id')!r}, and the ground truth has "
                f"{len(categories)} from {min(categories)} to {max(categories)}; map class numbers to category ids"
            )
        if not _is_finite(detection.get("score")):
            raise DataError(f"detection {index} needs a finite score, got {detection.get('score')!r}")
    kept = [detection for detection in found if detection["score"] >= confidence]
    left_out = {"bbox"} if task == "segm" and all("segmentation" in detection for detection in kept) else set()
    copied = [{key: value for key, value in detection.items() if key not in left_out} for detection in kept]
    return library().detections(objects, copied)


def _is_box(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 4 and all(map(_is_finite, value))


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)


class _Table:
    """Collects the library's records into the arrays of `Matches`."""

    def __init__(self, images: list[int], categories: list[int]) -> None:
        self.images = images
        self.image = {image: index for index, image in enumerate(images)}
        self.category = {category: index for index, category in enumerate(categories)}
        self.powers = 1 << np.arange(len(IOU_THRESHOLDS))
        self.cells: dict[tuple[int, int], _Cell] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        """Take in the record of one image, class and size."""
        key = self.category[record["category_id"]], self.image[record["image_id"]]
        if key not in self.cells:
            self.cells[key] = _Cell(np.array(record["dtScores"]))
        cell, size = self.cells[key], _size(record["aRng"])
        cell.objects[size] = len(record["gtIgnore"]) - sum(record["gtIgnore"])
        if len(cell.score):
            cell.matched[size] = self.powers @ np.array(record["dtMatched"])
            cell.ignored[size] = self.powers @ np.array(record["dtIgnore"])

    def build(self, classes: list[str]) -> Matches:
        """Sort what was taken in."""
        cells = list(self.cells.values())
        where = np.array(list(self.cells), dtype=np.int32).reshape(-1, 2)
        lengths = np.array([len(cell.score) for cell in cells], dtype=np.int64)
        category, image = np.repeat(where[:, 0], lengths), np.repeat(where[:, 1], lengths)
        rank = np.arange(len(image)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        score = np.concatenate([np.empty(0), *(cell.score for cell in cells)])
        order = np.lexsort((rank, image, -score, category))
        nothing = np.empty((len(SIZES), 0), dtype=np.uint16)
        objects = np.stack([cell.objects for cell in cells], 1) if cells else nothing
        pairs = np.flatnonzero(objects[0])
        pairs = pairs[np.lexsort((where[pairs, 1], where[pairs, 0]))]
        return Matches(
            images=np.array(self.images, dtype=np.int64),
            classes=np.array(classes),
            first=np.searchsorted(category[order], np.arange(len(classes) + 1)),
            score=score[order],
            image=image[order],
            rank=rank[order].astype(np.uint8),
            matched=np.concatenate([nothing, *(cell.matched for cell in cells)], 1)[:, order],
            ignored=np.concatenate([nothing, *(cell.ignored for cell in cells)], 1)[:, order],
            object_class=where[pairs, 0],
            object_image=where[pairs, 1],
            objects=objects[:, pairs],
        )


class _Cell:
    """The detections and objects of one image and class."""

    def __init__(self, score: NDArray[np.float64]) -> None:
        self.score = score
        self.matched = np.zeros((len(SIZES), len(score)), dtype=np.uint16)
        self.ignored = np.zeros((len(SIZES), len(score)), dtype=np.uint16)
        self.objects = np.zeros(len(SIZES), dtype=np.uint16)


def _size(area_range: Sequence[float]) -> int:
    """Return the row of `SIZES` for COCO's range of areas, in square pixels."""
    low, high = area_range
    if low == 0:
        return 0 if high > 32**2 else 1
    return 2 if high <= 96**2 else 3
