"""Rules that read an object's class off the pixels, given only where the objects are: each probe can be solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from attngraft.data.painting import Area, Picture
from attngraft.data.probes import PROBES
from attngraft.data.scenes import GAP, Scene, generator

COUNT = 1200
"""Enough to tell a class that six objects of ten have from chance: seven standard errors apart."""


@lru_cache(maxsize=32)
def scenes(name: str, count: int = COUNT) -> tuple[Scene, ...]:
    """Draw the images of a probe once for all tests."""
    return tuple(PROBES[name].draw(generator(0, 0, index)) for index in range(count))


def outside(picture: Picture, boxes: Sequence[Area]) -> np.ndarray:
    """Return the pixels ``(side, side, 3)`` as signed numbers, those of the objects black."""
    seen = picture.astype(int)
    for left, top, right, bottom in boxes:
        seen[top:bottom, left:right] = 0
    return seen


def centre(box: Area) -> tuple[int, int]:
    return (box.left + box.right) // 2, (box.top + box.bottom) // 2


def colour(pixels: np.ndarray) -> int:
    """Return the colour of the saturated pixels: 0 for red, 1 for green."""
    difference = (pixels[..., 0] - pixels[..., 1]).ravel()
    return int(difference[abs(difference) > 60].sum() < 0)


def dot(picture: Picture, box: Area) -> int:
    x, y = centre(box)
    return colour(picture[y : y + 1, x : x + 1].astype(int))


def cue_colour(picture: Picture, boxes: Sequence[Area]) -> list[int]:
    return [colour(outside(picture, boxes))] * len(boxes)


def tint(picture: Picture, boxes: Sequence[Area]) -> list[int]:
    """Return the tint of most patches that are far from the object."""
    (left, top, right, bottom), votes = boxes[0], []
    for y in range(0, 96, 8):
        for x in range(0, 96, 8):
            if max(left - x - 8, x - right, top - y - 8, y - bottom) >= GAP:
                patch = picture[y : y + 8, x : x + 8].astype(int)
                votes.append(patch[..., 1].mean() > patch[..., 0].mean())
    return [int(np.mean(votes) > 0.5)]


def direction(picture: Picture, boxes: Sequence[Area]) -> list[int]:
    """Return 0 where the blue square lies along an object's row, 1 along its column."""
    red, green, blue = np.moveaxis(outside(picture, boxes), -1, 0)
    rows, columns = np.nonzero((red == 60) & (green == 90) & (blue == 230))
    return [int(abs(columns.mean() - x) < abs(rows.mean() - y)) for x, y in map(centre, boxes)]


def most_others(picture: Picture, boxes: Sequence[Area]) -> list[int]:
    dots = [dot(picture, box) for box in boxes]
    return [int(sum(dots) - own >= 2) for own in dots]


def many(picture: Picture, boxes: Sequence[Area]) -> list[int]:
    """Count the corners with grey pixels, which no background has."""
    grey = (np.ptp(picture.astype(int), axis=2) == 0) & (picture[..., 0] >= 185)
    corners = [part for half in (grey[:48], grey[48:]) for part in (half[:, :48], half[:, 48:])]
    return [int(sum(corner.sum() > 30 for corner in corners) >= 3)] * len(boxes)


def highest(picture: Picture, boxes: Sequence[Area]) -> list[int]:
    """Compare the disc with the reddest of the squares."""
    x, y = centre(boxes[0])
    red, green, blue = np.moveaxis(outside(picture, boxes), -1, 0)
    squares = red[(green == 60) & (abs(red + blue - 280) <= 1)]
    return [int(picture[y, x, 0] > squares.max())]


def unlike(picture: Picture, boxes: Sequence[Area]) -> list[int]:
    beacon = colour(outside(picture, boxes))
    return [dot(picture, box) ^ beacon for box in boxes]


DECODERS: dict[str, Callable[[Picture, Sequence[Area]], list[int]]] = {
    "global": cue_colour,
    "statistics": tint,
    "reach": cue_colour,
    "relation": direction,
    "relbig": direction,
    "majority": most_others,
    "count": many,
    "comparison": highest,
    "xor": unlike,
}
"""`legend` has its own in ``tests/data/test_scenes.py``."""


def flipped(picture: Picture, boxes: Sequence[Area], *, across: bool) -> tuple[Picture, list[Area]]:
    """Mirror an image and its boxes, left to right or upside down."""
    side = len(picture)
    if across:
        return picture[:, ::-1], [Area(side - b.right, b.top, side - b.left, b.bottom) for b in boxes]
    return picture[::-1], [Area(b.left, side - b.bottom, b.right, side - b.top) for b in boxes]
