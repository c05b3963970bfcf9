"""The images on which arms disagree most: confident boxes of one arm that another has no like of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGES = 5
SURE = 0.25
"""Confidence from which a detection is shown, Ultralytics' own for predictions."""

Detections = Sequence[Mapping[str, Any]]
Grouped = dict[int, list[Mapping[str, Any]]]
ShownBox = tuple[float, float, float, float, int, float | None]


@dataclass(frozen=True)
class Sample:
    """An image on which the arms disagree.

    Attributes:
        file: Its file.
        width: In pixels.
        boxes: Boxes of the truth and of each arm shown: x, y, width, height in pixels, class index and confidence.
    """

    file: str
    width: int
    boxes: dict[str, list[ShownBox]]


def disagreements(truth: Mapping[str, Any], found: Mapping[str, Detections]) -> tuple[Sample, ...]:
    """Choose the images on which arms disagree most.

    Args:
        truth: Ground truth in COCO's format, with the ``root`` of its files.
        found: Detections of one run of each arm, in COCO's results format.

    Returns:
        The images, the greatest disagreement first; none where their files are no longer there.
    """
    grouped = {arm: _by_image([one for one in boxes if one["score"] >= SURE]) for arm, boxes in found.items()}
    chosen = sorted(truth["images"], key=lambda image: -_disagreement(image["id"], grouped))[:IMAGES]
    columns = {"truth": _by_image(truth["annotations"]), **grouped}
    files = [Path(truth["root"]) / image["file_name"] for image in chosen]
    if not all(file.is_file() for file in files):
        return ()
    order = {category["id"]: index for index, category in enumerate(truth["categories"])}
    return tuple(
        Sample(
            str(file),
            image["width"],
            {arm: [_shown(one, order) for one in boxes.get(image["id"], [])] for arm, boxes in columns.items()},
        )
        for file, image in zip(files, chosen, strict=True)
    )


def _shown(one: Mapping[str, Any], order: Mapping[int, int]) -> ShownBox:
    x, y, width, height = map(float, one["bbox"])
    return x, y, width, height, order[one["category_id"]], one.get("score")


def _by_image(found: Detections) -> Grouped:
    kept: Grouped = {}
    for one in found:
        kept.setdefault(one["image_id"], []).append(one)
    return kept


def _disagreement(image: int, found: Mapping[str, Grouped]) -> float:
    """Say how differently the arms see an image: boxes of one arm that another has no like of, over all pairs."""
    boxes = [arm.get(image, []) for arm in found.values()]
    return sum(_unmatched(one, other) for one in boxes for other in boxes if one is not other)


def _unmatched(one: Detections, other: Detections) -> float:
    """Sum the confidence of boxes that overlap none of the same class in ``other`` by half."""
    import torch
    from torchvision.ops import box_convert, box_iou

    mine, theirs = (
        box_convert(torch.tensor([box["bbox"] for box in boxes], dtype=torch.float64).reshape(-1, 4), "xywh", "xyxy")
        for boxes in (one, other)
    )
    kinds, other_kinds = (torch.tensor([box["category_id"] for box in boxes]) for boxes in (one, other))
    alike = (box_iou(mine, theirs) >= 0.5) & (kinds[:, None] == other_kinds[None])
    return float((torch.tensor([box["score"] for box in one]) * ~alike.any(1)).sum())
