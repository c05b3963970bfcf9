"""Ground truth as every library of COCO's takes it: numbers for ids, an id and an area for each annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.errors import DataError
from attngraft.coco.files import read_json
from attngraft.coco.libraries import Task
from attngraft.coco.masks import mask_area

NUMBERED = (("images", "id"), ("categories", "id"), ("annotations", "image_id"), ("annotations", "category_id"))
"""Where ids stand that have to be numbers."""


def uniform(truth: str | Path | Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Return ground truth in the one form that all libraries read alike; what was given is not changed.

    Annotations are renumbered: no detection names their ids, and one library takes annotations of equal id for one
    object. A missing area, whose stand-in differs from library to library, is that of the mask or of the box.

    Args:
        truth: Ground truth in COCO's instances format, a file or its content.
        task: Whether boxes or masks are compared.

    Raises:
        DataError: If the file cannot be read, an id is no number, or an annotation has nothing to take its area from.

    Example:
        >>> box = {"image_id": 1, "category_id": 7, "bbox": [10, 10, 50, 20]}
        >>> truth = {"images": [{"id": 1}], "categories": [{"id": 7}], "annotations": [{"id": 4, **box}] * 2}
        >>> [(one["id"], one["area"], one["iscrowd"]) for one in uniform(truth, "bbox")["annotations"]]
        [(1, 1000, 0), (2, 1000, 0)]
    """
    content = truth if isinstance(truth, Mapping) else read_json(Path(truth), dict)
    for part in ("images", "categories", "annotations"):
        rows = content.get(part, ())
        if not isinstance(rows, Sequence) or not all(isinstance(one, Mapping) for one in rows):
            raise DataError(f"{part} of the ground truth should be a list of objects, got {rows!r:.80}")
    for part, field in NUMBERED:
        for place, one in enumerate(content.get(part, ())):
            if not _is_number(one.get(field)):
                raise DataError(
                    f"{part}[{place}] of the ground truth needs a non-negative integer as its {field}, got "
                    f"{one.get(field)!r}; give images and classes numbers, in the ground truth and in the detections"
                )
    images = {image["id"]: image for image in content.get("images", ())}
    annotations = []
    for number, one in enumerate(content.get("annotations", ()), 1):
        area = one.get("area")
        if area is None:
            area = _area(one, images.get(one["image_id"], {}), task, number - 1)
        annotations.append({**one, "id": number, "iscrowd": one.get("iscrowd") or 0, "area": area})
    return {**content, "annotations": annotations}


def _is_number(value: Any) -> bool:
    whole = isinstance(value, (int, np.integer)) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool) and value >= 0


def _area(one: Mapping[str, Any], image: Mapping[str, Any], task: Task, place: int) -> float:
    outline, box = one.get("segmentation"), one.get("bbox")
    if task == "segm" and outline:
        size = outline["size"] if isinstance(outline, Mapping) else (image.get("height"), image.get("width"))
        if None not in size:
            return mask_area(outline, *size)
    if not isinstance(box, Sequence) or len(box) != 4:
        raise DataError(
            f"annotations[{place}] of the ground truth needs an area, or a bbox of four numbers to take it from, got "
            f"bbox={box!r}"
        )
    area: float = box[2] * box[3]
    return area
