"""Annotated images, from whatever file they were read: boxes, classes and masks in pixels, and what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft._core.errors import DataError
from attngraft.coco.masks import decode_mask, mask_area

Segmentation = list[NDArray[np.float64]] | dict[str, Any]
"""Polygons, each ``(n, 2)`` in pixels, or COCO's run lengths."""


@dataclass(frozen=True, eq=False)
class Thing:
    """One object as a file states it.

    Attributes:
        label: Class index.
        box: Left, top, right and bottom, in pixels.
        segmentation: Its outline, where there is one.
        area: What COCO calls its area; None takes that of its outline or its box.
        crowd: Whether it stands for many objects, which training leaves out and evaluation ignores.
    """

    label: int
    box: tuple[float, float, float, float]
    segmentation: Segmentation | None = None
    area: float | None = None
    crowd: bool = False


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image and the objects on it, all inside it and all of some area.

    Attributes:
        path: The file.
        width: In pixels.
        height: In pixels.
        things: Its objects.
    """

    path: Path
    width: int
    height: int
    things: tuple[Thing, ...]

    def boxes(self, *, crowds: bool = False) -> NDArray[np.float32]:
        """Return the boxes ``(n, 4)``."""
        return np.array([thing.box for thing in self.kept(crowds)], np.float32).reshape(-1, 4)

    def labels(self, *, crowds: bool = False) -> NDArray[np.int64]:
        """Return the class indices ``(n,)``."""
        return np.array([thing.label for thing in self.kept(crowds)], np.int64)

    def masks(self, *, crowds: bool = False) -> NDArray[np.uint8]:
        """Draw the masks ``(n, H, W)``."""
        drawn = [decode_mask(_coco(thing.segmentation), self.height, self.width) for thing in self.kept(crowds)]
        return np.stack(drawn) if drawn else np.zeros((0, self.height, self.width), np.uint8)

    def kept(self, crowds: bool) -> tuple[Thing, ...]:
        """Return the objects, those that stand for many only if asked for."""
        return self.things if crowds else tuple(thing for thing in self.things if not thing.crowd)


@dataclass(frozen=True, eq=False)
class ObjectSet:
    """One split of a detection or segmentation data set.

    Attributes:
        images: Its images.
        classes: Class names.
        dropped: How many objects of no area, or wholly outside their image, were left out.
        category_ids: What the data set's own file calls the classes; YOLO's are counted from 1.
        notes: What a user should know of the files.
    """

    images: tuple[AnnotatedImage, ...]
    classes: tuple[str, ...]
    dropped: int
    category_ids: tuple[int | str, ...]
    notes: tuple[str, ...] = ()

    def truth(self, *, masks: bool) -> dict[str, Any]:
        """Return the split in COCO's format, image and class numbers counted from 1."""
        annotations: list[dict[str, Any]] = []
        for index, image in enumerate(self.images, 1):
            for thing in image.things:
                left, top, right, bottom = thing.box
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": thing.label + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": thing.area,
                    "iscrowd": int(thing.crowd),
                }
                annotations.append(annotation | ({"segmentation": _coco(thing.segmentation)} if masks else {}))
        return {
            "images": [
                {"id": index, "file_name": image.path.name, "width": image.width, "height": image.height}
                for index, image in enumerate(self.images, 1)
            ],
            "categories": [{"id": index, "name": name} for index, name in enumerate(self.classes, 1)],
            "annotations": annotations,
        }


def object_set(
    images: Iterable[tuple[Path, int, int, Sequence[Thing]]],
    classes: Sequence[str],
    *,
    masks: bool,
    category_ids: Sequence[int | str] | None = None,
) -> ObjectSet:
    """Clip objects to their images and drop those of which nothing is left.

    Args:
        images: Path, width, height and objects of each.
        classes: Class names.
        masks: Whether an object needs a mask of some area too.
        category_ids: What the file calls the classes; None counts them from 1.

    Raises:
        DataError: If there are no images, no objects, or no masks where they are needed.
    """
    made, given, lacking = [], 0, ""
    for path, width, height, things in images:
        if masks and any(thing.segmentation is None for thing in things):
            lacking = lacking or str(path)
        whole = [_inside(thing, width, height, masks) for thing in things]
        given += len(whole)
        made.append(AnnotatedImage(path, width, height, tuple(thing for thing in whole if thing is not None)))
    kept = sum(len(image.things) for image in made)
    if not made:
        raise DataError("the data set has no images")
    if lacking:
        raise DataError(
            f"the annotations of {lacking} have boxes without outlines; segmentation needs polygons or masks"
        )
    if not kept:
        raise DataError(f"none of the {len(made)} images, the first of which is {made[0].path}, has an object")
    ids = range(1, len(classes) + 1) if category_ids is None else category_ids
    return ObjectSet(tuple(made), tuple(classes), given - kept, tuple(ids))


def _inside(thing: Thing, width: int, height: int, masks: bool) -> Thing | None:
    """Clip an object to its image; None if nothing of it is left."""
    left, right = np.clip(thing.box[::2], 0, width)
    top, bottom = np.clip(thing.box[1::2], 0, height)
    if right <= left or bottom <= top:
        return None
    area = thing.area
    if masks and thing.segmentation is not None:
        drawn = mask_area(_coco(thing.segmentation), height, width) if _drawable(thing) else 0
        if not drawn:
            return None
        area = area or float(drawn)
    box = (float(left), float(top), float(right), float(bottom))
    return Thing(thing.label, box, thing.segmentation, area or float((right - left) * (bottom - top)), thing.crowd)


def _drawable(thing: Thing) -> bool:
    return isinstance(thing.segmentation, dict) or any(len(polygon) >= 3 for polygon in thing.segmentation or ())


def _coco(segmentation: Segmentation | None) -> list[list[float]] | dict[str, Any]:
    """Write an outline as COCO does; parts of fewer than three points enclose nothing."""
    if isinstance(segmentation, dict):
        return segmentation
    return [polygon.reshape(-1).tolist() for polygon in segmentation or () if len(polygon) >= 3]
