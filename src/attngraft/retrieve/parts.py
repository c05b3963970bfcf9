"""Parts of images as items: objects inside their image, and crops that are seen alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attngraft._core.errors import DataError
from attngraft.drawing import read_image
from attngraft.maps import Box
from attngraft.retrieve.items import CUT, SIDES, Item, Value
from attngraft.retrieve.networks import Pixels


@dataclass(frozen=True)
class View:
    """What the network is shown: an image, or a part cut out of it, and the items whose keys are taken there."""

    path: Path
    cut: Box | None
    items: list[Item]

    def of(self, image: Pixels) -> Pixels:
        """Return the image, or the part that is cut out of it.

        Args:
            image: What the file holds.

        Raises:
            DataError: If an item's box has no pixel of it.
        """
        height, width = image.shape[:2]
        for item in self.items:
            box = box_of(item)
            if box and not (box[2] > max(0, box[0]) and box[3] > max(0, box[1]) and box[0] < width and box[1] < height):
                raise DataError(f"{item.id}: the box {box} has no pixel of {self.path}, which is {width} x {height}")
        if self.cut is None:
            return image
        left, top, right, bottom = self.cut
        rows = slice(max(0, math.floor(top)), max(0, math.ceil(bottom)))
        return np.ascontiguousarray(image[rows, max(0, math.floor(left)) : max(0, math.ceil(right))])


def part(query: Item, box: Sequence[float], number: int, *, cut: bool, **fields: Value) -> Item:
    """Return a part of an image as an item.

    Args:
        query: The image.
        box: Left, top, right and bottom in pixels of the file.
        number: Which part it is.
        cut: Whether it is cut out and encoded alone, rather than inside its image.
        **fields: Further fields.
    """
    edges: dict[str, Value] = dict(zip(SIDES, (float(edge) for edge in box), strict=True))
    marks: dict[str, Value] = {CUT: True} if cut else {}
    return replace(query, id=f"{query.id}#{number}", fields={**query.fields, **edges, **marks, **fields})


def views(items: Sequence[Item]) -> Iterator[View]:
    """Bring together the items that are read from one image, in the order in which their first comes."""
    views: dict[tuple[Path, Box | None], View] = {}
    for item in items:
        path, cut = path_of(item), box_of(item) if item.fields.get(CUT) else None
        views.setdefault((path, cut), View(path, cut, [])).items.append(item)
    yield from views.values()


def path_of(item: Item) -> Path:
    """Return the file of an item.

    Raises:
        DataError: If it is a text.
    """
    if item.path is None:
        raise DataError(f"{item.id} has no image; keys of images need items with a path")
    return item.path


def box_of(item: Item) -> Box | None:
    """Return the box of an item in pixels of its file; None for a whole image.

    Raises:
        DataError: If its edges are no four numbers.
    """
    if not any(side in item.fields for side in SIDES):
        return None
    left, top, right, bottom = (item.fields.get(side) for side in SIDES)
    edges = (left, top, right, bottom)
    if any(isinstance(edge, bool) or not isinstance(edge, (int, float)) or not math.isfinite(edge) for edge in edges):
        raise DataError(f"{item.id} needs four numbers {', '.join(SIDES)} in pixels, got {edges}")
    return tuple(float(edge) for edge in edges)  # type: ignore[arg-type, return-value]


def tiles(query: Item) -> list[Item]:
    """Cut an image into 2 x 2.

    Raises:
        DataError: If it cannot be read.
    """
    height, width = read_image(path_of(query)).shape[:2]
    corners = [(x, y) for y in (0, height / 2) for x in (0, width / 2)]
    boxes = [(x, y, x + width / 2, y + height / 2) for x, y in corners]
    return [part(query, box, number, cut=True) for number, box in enumerate(boxes, 1)]
