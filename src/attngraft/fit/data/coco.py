"""Read COCO's instances format: boxes, and masks as polygons or run lengths."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attngraft._core.errors import DataError
from attngraft.coco.files import load_json
from attngraft.coco.masks import run_counts
from attngraft.fit.data.images import is_file, is_folder
from attngraft.fit.data.objects import ObjectSet, Segmentation, Thing, object_set
from attngraft.fit.data.rules import Rule, is_number

PREFIX = "instances_"
SPLIT = re.compile(r"(?:train(?:ing|val)?|val(?:id|idation)?|test(?:ing)?)(?![A-Za-z])")

ImageId = int | str


_KEY = Rule("a number or a text", lambda value: isinstance(value, str) or is_number(value))
_TEXT = Rule("a text", lambda value: isinstance(value, str))
_SIDE = Rule("a positive integer", lambda value: is_number(value) and value > 0 and value == int(value))
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**27)
"""More than these Pillow refuses to open, and a mask of them to draw would fill the memory."""

FARTHEST = 16
"""How many image sides a point may lie outside its image; a polygon is drawn pixel by pixel, as long as it is."""

_AREA = Rule("a number of 0 or more", lambda value: value is None or (is_number(value) and value >= 0))
_FLAG = Rule("0 or 1", lambda value: value in (None, 0, 1))
_BOX = Rule(
    "four numbers, left, top, width and height, no side below 0",
    lambda value: isinstance(value, list) and len(value) == 4 and all(map(is_number, value)) and min(value[2:]) >= 0,
)

FIELDS: Mapping[str, Mapping[str, Rule]] = {
    "images": {"id": _KEY, "file_name": _TEXT, "width": _SIDE, "height": _SIDE},
    "annotations": {"image_id": _KEY, "category_id": _KEY, "bbox": _BOX, "area": _AREA, "iscrowd": _FLAG},
    "categories": {"id": _KEY, "name": _KEY},
}
"""The lists of a file and the fields of their entries; None stands for a field that is not there."""


def read_coco(file: Path, images: Path | None, *, masks: bool) -> ObjectSet:
    """Read one split.

    Args:
        file: The JSON file.
        images: The folder that its ``file_name`` entries start from; None looks beside the file, as COCO is laid out.
        masks: Whether every object needs a mask.

    Raises:
        DataError: If something is missing, is no value that it can be, or does not fit together; names the entry.
    """
    content = load_json(file)
    rows = {key: _rows(file, content, key) for key in FIELDS}
    categories = _by_id(file, "categories", rows["categories"])
    if len({isinstance(key, str) for key in categories}) > 1:
        raise DataError(f"{file}: the ids of 'categories' are numbers and texts, and they need to be of one kind")
    labels = {key: index for index, key in enumerate(sorted(categories))}
    listed = _by_id(file, "images", rows["images"])
    for place, image in enumerate(rows["images"]):
        if image["width"] * image["height"] > MOST_PIXELS:
            size = f"{image['width']}x{image['height']}"
            raise DataError(
                f"{file}: {_entry('images', place, image)} is said to be {size} pixels, more than the {MOST_PIXELS} "
                "that are read; correct its width and height, or make the image smaller"
            )
    things: dict[Any, list[Thing]] = defaultdict(list)
    for place, annotation in enumerate(rows["annotations"]):
        where = f"{file}: {_entry('annotations', place, annotation)}"
        if annotation["image_id"] not in listed:
            raise DataError(f"{where} is of image {annotation['image_id']!r}, which is not listed")
        if annotation["category_id"] not in labels:
            raise DataError(f"{where} is of category {annotation['category_id']!r}, which is not listed")
        image = listed[annotation["image_id"]]
        outline = _segmentation(where, annotation.get("segmentation"), image) if masks else None
        things[image["id"]].append(_thing(annotation, labels, outline))
    folder = _folder(file, images, rows["images"])
    annotated = (
        (folder / image["file_name"], int(image["width"]), int(image["height"]), things[image["id"]])
        for image in rows["images"]
    )
    names = [str(categories[key]["name"]) for key in labels]
    data = object_set(annotated, names, masks=masks, category_ids=list(labels))
    outside = [image["file_name"] for image in rows["images"] if _leaves(image["file_name"])]
    if not outside:
        return data
    return replace(data, notes=(f"{len(outside)} images are outside {folder}, the first is {outside[0]}",))


def _leaves(name: str) -> bool:
    """Tell whether a file name leads out of the folder that it starts from: the file may be a stranger's."""
    return Path(name).is_absolute() or ".." in Path(name).parts


def listed_images(file: Path, images: Path | None) -> list[tuple[Path, ImageId, tuple[int, int] | None]]:
    """Read which images a COCO JSON lists, their ids and sizes; it needs no annotations and no sizes.

    Args:
        file: The JSON file.
        images: As for `read_coco`.

    Returns:
        The file of each image, its id, and its width and height where the list has both.

    Raises:
        DataError: If the list is missing or empty, or an entry or an image is, or if a size is no size.
    """
    rows = _rows(file, load_json(file), "images", optional=("width", "height"))
    if not rows:
        raise DataError(f"{file} lists no images")
    _by_id(file, "images", rows)
    folder = _folder(file, images, rows)
    return [(folder / row["file_name"], row["id"], _size(row)) for row in rows]


def _size(row: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = row.get("width"), row.get("height")
    return None if width is None or height is None else (int(width), int(height))


def coco_splits(data: Path) -> dict[str, Path]:
    """Find the files of the splits from one of them, or from a folder that has them.

    A file whose name says no split is that of training; beside it, or in the folder, the name decides.

    Example:
        ``coco/annotations/instances_train2017.json``, or ``coco``, gives that and ``instances_val2017.json``.

    Raises:
        DataError: If there is no file of any split.
    """
    folder = data.parent if is_file(data) else data
    if not is_folder(folder):
        raise DataError(f"{data} does not exist; give COCO's JSON or its folder")
    files = sorted({*folder.glob("*.json"), *(folder / "annotations").glob("*.json")})
    found = {split: file for file in reversed(files) if (split := _split_of(file))}
    if is_file(data):
        found[_split_of(data) or "train"] = data
    if not found:
        raise DataError(f"{data} has no {PREFIX}train*.json, neither there nor under annotations/")
    return found


def _split_of(file: Path) -> str | None:
    said = SPLIT.match(file.stem.removeprefix(PREFIX))
    return None if said is None else next(name for name in ("train", "val", "test") if said[0].startswith(name))


def _rows(file: Path, content: Any, key: str, optional: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return one of the lists, every field of every entry checked; one that is optional may be missing or null."""
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError(f"{file} has no list {key!r}; it should be in COCO's instances format")
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"{file}: entry {place} of {key!r} needs to be a mapping, got {str(row)[:60]!r}")
        for name, field in FIELDS[key].items():
            if name in optional and row.get(name) is None:
                continue
            if not field.holds(row.get(name)):
                got = f"got {str(row[name])[:60]}" if name in row else "and has none"
                raise DataError(f"{file}: {_entry(key, place, row)} needs {name} to be {field.words}, {got}")
    return rows


def _entry(key: str, place: int, row: Mapping[str, Any]) -> str:
    """Name an entry by its id, or by its place where it has none."""
    one = {"images": "image", "annotations": "annotation", "categories": "category"}[key]
    return f"{one} {row['id']}" if _KEY.holds(row.get("id")) else f"entry {place} of {key!r}"


def _by_id(file: Path, key: str, rows: Sequence[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for place, row in enumerate(rows):
        if row["id"] in found:
            raise DataError(f"{file}: {_entry(key, place, row)} is listed twice; give each an id of its own")
        found[row["id"]] = row
    return found


def _thing(annotation: Mapping[str, Any], labels: Mapping[Any, int], outline: Segmentation | None) -> Thing:
    left, top, width, height = map(float, annotation["bbox"])
    area = annotation.get("area")
    return Thing(
        labels[annotation["category_id"]],
        (left, top, left + width, top + height),
        outline,
        float(area) if area else None,
        bool(annotation.get("iscrowd", 0)),
    )


def _segmentation(where: str, given: Any, image: Mapping[str, Any]) -> Segmentation | None:
    """Return polygons or run lengths, checked; None where an annotation has neither."""
    if not given:
        return None
    if isinstance(given, Mapping):
        return _runs(where, given, [int(image["height"]), int(image["width"])])
    parts = [given] if isinstance(given, list) and not isinstance(given[0], list) else given
    if not isinstance(parts, list) or not all(
        isinstance(part, list) and len(part) % 2 == 0 and all(map(is_number, part)) for part in parts
    ):
        raise DataError(
            f"{where} needs segmentation to be lists of x and y in turn, or run lengths, got {str(given)[:60]}"
        )
    polygons = [np.array(part, np.float64).reshape(-1, 2) for part in parts]
    reach = FARTHEST * max(image["width"], image["height"])
    if any(np.abs(polygon).max(initial=0) > reach for polygon in polygons):
        raise DataError(
            f"{where} has points more than {reach} pixels away from its image of {image['width']}x{image['height']}; "
            "correct its segmentation"
        )
    return polygons


def _runs(where: str, given: Mapping[str, Any], size: list[int]) -> dict[str, Any]:
    counts = given.get("counts")
    try:
        numbers = run_counts(counts) if isinstance(counts, str) else counts
    except ValueError as error:
        raise DataError(f"{where} has run lengths that cannot be read: {error}") from error
    if not isinstance(numbers, list) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise DataError(f"{where} needs counts to be integers of 0 or more, or COCO's text of them")
    if given.get("size") != size:
        raise DataError(f"{where} has run lengths of size {given.get('size')}, and its image has {size}, height first")
    if sum(numbers) != size[0] * size[1]:
        raise DataError(f"{where} has run lengths of {sum(numbers)} pixels, and its image has {size[0] * size[1]}")
    return dict(given)


def _folder(file: Path, images: Path | None, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Return the folder of the images, all of which are there."""
    folder = images or _images_folder(file, rows)
    missing = [row["file_name"] for row in rows if not is_file(folder / row["file_name"])]
    if missing:
        raise DataError(
            f"{file} lists {len(missing)} images that are not in {folder}, the first is {missing[0]}; "
            "say where they are with images=FOLDER"
        )
    return folder


def _images_folder(file: Path, images: Sequence[Mapping[str, Any]]) -> Path:
    """Find the folder in which the first image is, near the file."""
    home, split = file.parent, file.stem.removeprefix(PREFIX)
    near = [base / name for base in (home, home.parent) for name in ("", split, "images", f"images/{split}")]
    if not images:
        return home
    for folder in near:
        if is_file(folder / images[0]["file_name"]):
            return folder
    tried = ", ".join(str(folder) for folder in dict.fromkeys(near))
    raise DataError(
        f"{file} lists {images[0]['file_name']}, which is in none of {tried}; say where images are with images=FOLDER"
    )
