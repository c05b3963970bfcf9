"""Paint generated images: backgrounds, shapes, colours and free places, in integers.

All arithmetic on pixels is in integers, so that an image is the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
"""Pixels ``(side, side, 3)``, red first."""

Mask = NDArray[np.bool_]

COLOURS = ("red", "green")
"""The class names; a class is an index into them."""

GLYPHS = ("plus", "cross", "ring", "bars")

_RGB = ((230, 60, 60), (60, 200, 60))


class Area(NamedTuple):
    """A rectangle in pixels; ``right`` and ``bottom`` are the first column and row outside it."""

    left: int
    top: int
    right: int
    bottom: int


def chebyshev(one: Area, other: Area) -> int:
    """Count the pixels between two areas along the axis where they are farther apart."""
    across = max(one.left - other.right, other.left - one.right)
    down = max(one.top - other.bottom, other.top - one.bottom)
    return max(across, down)


def background(rng: Generator, side: int) -> Picture:
    """Return 4 x 4 greyish patches, blown up smoothly, under noise of standard deviation 8."""
    patches = rng.integers(60, 141, (4, 4, 1)) + rng.integers(-12, 13, (4, 4, 3))
    # Pillow resizes bytes in fixed point; OpenCV's result differs between processors.
    smooth = np.asarray(Image.fromarray(patches.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC))
    # The sum of four bytes is close to a Gaussian of mean 510 and standard deviation 147.8, about 8 * 128 / 7.
    shape = (4, side, side, 3)
    total = np.frombuffer(rng.bytes(math.prod(shape)), np.uint8).reshape(shape).sum(0, dtype=np.int16)
    noise = (total - 510) * 7 >> 7
    picture: Picture = (smooth + noise).clip(0, 255).astype(np.uint8)
    return picture


def places(rng: Generator, side: int, radii: list[int], cue: Area, gap: int) -> list[tuple[int, int, int]]:
    """Choose a centre for each radius, uniformly among those that keep the distances; leave out what finds no room."""
    found: list[tuple[int, int, int]] = []
    y, x = np.ogrid[:side, :side]
    for radius in radii:
        free = (np.minimum(x, side - 1 - x) > radius) & (np.minimum(y, side - 1 - y) > radius)
        for area, least in [(cue, gap), *((square(*other), 2) for other in found)]:
            across = np.maximum(area.left - (x + radius + 1), x - radius - area.right)  # (1, side)
            down = np.maximum(area.top - (y + radius + 1), y - radius - area.bottom)  # (side, 1)
            free &= np.maximum(across, down) >= least
        cells = np.flatnonzero(free)
        if len(cells):
            row, column = divmod(int(cells[rng.integers(len(cells))]), side)
            found.append((column, row, radius))
    return found


def paint(picture: Picture, x: int, y: int, covered: Mask, rgb: tuple[int, ...]) -> None:
    """Colour the pixels of a mask centred at a pixel."""
    half = len(covered) // 2
    picture[y - half : y + half + 1, x - half : x + half + 1][covered] = rgb


def paint_object(rng: Generator, picture: Picture, x: int, y: int, radius: int, dot: int) -> Area:
    """Paint a grey object with a dot of one of `COLOURS` in its middle, and return its tight box."""
    paint(picture, x, y, mask(one_of(rng, "circle", "square", "triangle"), radius), grey(rng))
    paint(picture, x, y, mask("circle", max(2, radius // 3)), coloured(rng, dot))
    return square(x, y, radius)


def square(x: int, y: int, half: int) -> Area:
    """Return the area of the ``(2 * half + 1) ** 2`` pixels around a centre."""
    return Area(x - half, y - half, x + half + 1, y + half + 1)


@lru_cache(maxsize=256)
def mask(shape: str, half: int) -> Mask:
    """Return which of the ``(2 * half + 1) ** 2`` pixels around a centre a shape covers; it touches all four sides."""
    y, x = np.ogrid[-half : half + 1, -half : half + 1]
    return np.broadcast_to(_SHAPES[shape](abs(x), y, half), (2 * half + 1,) * 2)


def _disc(x: NDArray[np.int_], y: NDArray[np.int_], half: int) -> Mask:
    return x * x + y * y <= half * (half + 1)


_SHAPES: dict[str, Callable[[NDArray[np.int_], NDArray[np.int_], int], Mask]] = {
    "circle": _disc,
    "square": lambda x, y, half: x + 0 * y <= half,
    "triangle": lambda x, y, half: 2 * x <= y + half,
    # The glyphs look the same after a flip, as training flips images.
    "plus": lambda x, y, half: np.minimum(x, abs(y)) <= half // 4,
    "cross": lambda x, y, half: abs(x - abs(y)) <= half // 4,
    "ring": lambda x, y, half: _disc(x, y, half) & ~_disc(x, y, half - 1 - half // 4),
    "bars": lambda x, y, half: abs(y) + 0 * x >= half - half // 3,
}


def grey(rng: Generator) -> tuple[int, ...]:
    """Draw a light grey that no background has."""
    return (uniform(rng, 185, 234),) * 3


def coloured(rng: Generator, colour: int) -> tuple[int, ...]:
    """Draw a shade of one of `COLOURS`."""
    return tuple(channel + uniform(rng, -25, 25) for channel in _RGB[colour])


def one_of(rng: Generator, *names: str) -> str:
    """Draw one of the names."""
    return names[rng.integers(len(names))]


def uniform(rng: Generator, low: int, high: int) -> int:
    """Draw an integer, both ends included."""
    return int(rng.integers(low, high + 1))
