"""What a detector missed: read from a list, or found by comparing its detections with labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from attngraft._core.errors import DataError, OptionError
from attngraft._core.progress import SILENT, Progress
from attngraft.maps import Box, intersection_over_union
from attngraft.retrieve.images import ImageEncoder
from attngraft.retrieve.items import Item
from attngraft.retrieve.parts import part

SAME = 0.5
"""Intersection over union from which a detection holds an object."""


def read_misses(
    like: str | Path | Sequence[Item], encoder: ImageEncoder, *, split: str = "val", progress: Progress = SILENT
) -> list[Item]:
    """Return objects that a detector missed, as parts of their images.

    Args:
        like: A ``data.yaml``, of which a split is detected on and compared with its labels; a ``.txt`` file with an
            image in each line, and behind it the left, top, right and bottom of a miss in pixels, or nothing for the
            whole image; or items.
        encoder: The detector; its ``confidence`` is the least score of a detection.
        split: The split of a ``data.yaml``.
        progress: Whom to tell what is being done.

    Raises:
        DataError: If nothing was missed, or a file cannot be read; names the line.
        OptionError: If the classes of a data file are not the detector's.
    """
    if not isinstance(like, (str, Path)):
        found = list(like)
    elif Path(like).suffix.lower() in (".yaml", ".yml"):
        found = _of_data(Path(like), encoder, split, progress)
    else:
        found = _of_list(Path(like))
    if not found:
        raise DataError(f"{like} has no miss to look for: every object of it is detected, or it lists none")
    return found


def undetected(
    boxes: Sequence[Box], labels: Sequence[int], detections: Sequence[tuple[Box, int, float]], least: float = SAME
) -> list[int]:
    """Return the objects that no detection holds, by COCO's matching of one image.

    Detections of a class, the surest first, each take the object of their class that they overlap most and that is
    still free.

    Args:
        boxes: Boxes of the objects.
        labels: Their classes.
        detections: Box, class and score of each detection.
        least: Intersection over union that makes a hit.

    Example:
        >>> undetected([(0, 0, 10, 10), (20, 0, 30, 10)], [0, 0], [((1, 0, 10, 10), 0, 0.9)])
        [1]
    """
    free = set(range(len(boxes)))
    for box, label, _ in sorted(detections, key=lambda detection: -detection[2]):
        candidates = [number for number in sorted(free) if labels[number] == label]
        if candidates:
            overlaps = intersection_over_union(
                torch.tensor([box], dtype=torch.float64),
                torch.tensor([boxes[number] for number in candidates], dtype=torch.float64),
            )[0]
            if float(overlaps.max()) >= least:
                free.remove(candidates[int(overlaps.argmax())])
    return sorted(free)


def _of_data(file: Path, encoder: ImageEncoder, split: str, progress: Progress) -> list[Item]:
    from attngraft.fit.data.yolo_folder import read_yolo

    objects = read_yolo(file, split, masks=False)
    names: Any = encoder.subject.names
    if list(names.values()) != list(objects.classes):
        raise OptionError(
            f"the classes of {file} are {', '.join(objects.classes)[:80]}, and the model's are "
            f"{', '.join(names.values())[:80]}; give the data that it was trained for"
        )
    found = []
    for number, image in enumerate(objects.images, 1):
        progress.started(f"detecting on the {split} images: {number} of {len(objects.images)}")
        item = Item(str(image.path), path=image.path)
        things = image.kept(crowds=False)
        missed = undetected([thing.box for thing in things], [thing.label for thing in things], encoder.detect(item))
        for at in missed:
            label = objects.classes[things[at].label]
            found.append(part(item, things[at].box, at + 1, cut=False, label=label))
    progress.line(f"{len(found)} objects of {len(objects.images)} images are missed at confidence {encoder.confidence}")
    return found


def _of_list(file: Path) -> list[Item]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}"
        ) from error
    return [_of_line(line.strip(), number, file) for number, line in enumerate(lines, 1) if line.strip()]


def _of_line(line: str, number: int, file: Path) -> Item:
    """Read a path, which may hold blanks, and four numbers behind it or none."""
    words = line.rsplit(maxsplit=4)
    numbers = [_number(word) for word in words[1:]]
    with_box = len(numbers) == 4 and None not in numbers
    name = words[0] if with_box else line
    path = next((p for p in (file.parent / name, Path(name)) if p.is_file()), None)
    if path is None:
        raise DataError(
            f"{file}, line {number}: there is no image {name}; write a path, and behind it left, top, right and bottom "
            "in pixels or nothing"
        )
    item = Item(str(path), path=path)
    return part(item, [edge for edge in numbers if edge is not None], number, cut=False) if with_box else item


def _number(word: str) -> float | None:
    try:
        found = float(word)
    except ValueError:
        return None
    return found if math.isfinite(found) else None
