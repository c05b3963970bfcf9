"""Read COCO's instances format: boxes, and masks as polygons or run lengths."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.errors import DataError
from attngraft.fit.objects import ObjectSet, Segmentation, Thing, object_set

PREFIX = "instances_"


def read_coco(file: Path, images: Path | None, *, masks: bool) -> ObjectSet:
    """Read one split.

    Args:
        file: The JSON file.
        images: The folder that its ``file_name`` entries start from; None looks beside the file, as COCO is laid out.
        masks: Whether every object needs a mask.

    Raises:
        DataError: If something is missing, or does not fit together; names it.
    """
    content = _content(file)
    categories = sorted(content["categories"], key=lambda category: category["id"])
    labels = {category["id"]: index for index, category in enumerate(categories)}
    things: dict[Any, list[Thing]] = defaultdict(list)
    known = {image["id"] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation.get("image_id") not in known:
            raise DataError(f"{file}: annotation {annotation.get('id')} is of an image that is not listed")
        if annotation.get("category_id") not in labels:
            raise DataError(
                f"{file}: annotation {annotation.get('id')} is of category {annotation.get('category_id')!r}, "
                f"which is not listed"
            )
        things[annotation["image_id"]].append(_thing(file, annotation, labels))
    folder = images or _images_folder(file, content["images"])
    missing = [image["file_name"] for image in content["images"] if not (folder / image["file_name"]).is_file()]
    if missing:
        raise DataError(
            f"{file} lists {len(missing)} pictures that are not in {folder}, the first is {missing[0]}; "
            "say where they are with images=FOLDER"
        )
    pictures = (
        (folder / image["file_name"], int(image["width"]), int(image["height"]), things[image["id"]])
        for image in content["images"]
    )
    return object_set(pictures, [str(category["name"]) for category in categories], masks=masks)


def coco_splits(data: Path) -> dict[str, Path]:
    """Find the files of the splits from one of them, or from a folder that has them.

    Example:
        ``coco/annotations/instances_train2017.json``, or ``coco``, gives that and ``instances_val2017.json``.

    Raises:
        DataError: If there is no file for training.
    """
    folder = data.parent if data.is_file() else data
    files = sorted({*folder.glob("*.json"), *(folder / "annotations").glob("*.json")})
    splits = {
        split: next((file for file in files if file.stem.removeprefix(PREFIX).startswith(split)), None)
        for split in ("train", "val", "test")
    }
    if data.is_file():
        splits["train"] = data
    found = {split: file for split, file in splits.items() if file is not None}
    if "train" not in found:
        raise DataError(f"{data} has no {PREFIX}train*.json, neither there nor under annotations/")
    return found


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file} does not exist") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not JSON ({error})") from error
    needed = {
        "images": ("id", "file_name", "width", "height"),
        "annotations": ("image_id",),
        "categories": ("id", "name"),
    }
    for key, fields in needed.items():
        rows = content.get(key) if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise DataError(f"{file} has no list {key!r}; it should be in COCO's instances format")
        for row in rows:
            lacking = [field for field in fields if field not in row]
            if lacking:
                raise DataError(f"{file}: an entry of {key!r} has no {lacking[0]!r}: {str(row)[:80]}")
    return dict(content)


def _thing(file: Path, annotation: Mapping[str, Any], labels: Mapping[Any, int]) -> Thing:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(edge, (int, float)) for edge in box):
        raise DataError(f"{file}: annotation {annotation.get('id')} needs a bbox of four numbers, got {box!r}")
    left, top, width, height = map(float, box)
    area = annotation.get("area")
    return Thing(
        labels[annotation["category_id"]],
        (left, top, left + width, top + height),
        _segmentation(annotation.get("segmentation")),
        float(area) if area else None,
        bool(annotation.get("iscrowd", 0)),
    )


def _segmentation(given: Any) -> Segmentation | None:
    if isinstance(given, Mapping) and {"size", "counts"} <= set(given):
        return dict(given)
    if isinstance(given, list) and given:
        parts = [given] if isinstance(given[0], (int, float)) else given
        return [np.array(part[: len(part) // 2 * 2], np.float64).reshape(-1, 2) for part in parts]
    return None


def _images_folder(file: Path, images: Sequence[Mapping[str, Any]]) -> Path:
    """Find the folder in which the first picture is, near the file."""
    home, split = file.parent, file.stem.removeprefix(PREFIX)
    near = [base / name for base in (home, home.parent) for name in ("", split, "images", f"images/{split}")]
    if not images:
        return home
    for folder in near:
        if (folder / str(images[0]["file_name"])).is_file():
            return folder
    tried = ", ".join(str(folder) for folder in dict.fromkeys(near))
    raise DataError(
        f"{file} lists {images[0]['file_name']}, which is in none of {tried}; say where pictures are with images=FOLDER"
    )
