"""Draw the images of the beacons data set, on which seeing far decides the class by construction.

Two kinds of scene. In a **beacon** scene one square in a corner is red or green; in a **legend** scene a strip along
the top shows four glyphs on red or green tiles, and every object carries one of the glyphs. In both, each object also
has a small red or green dot of its own. So every object has two colours: a `near` one, its dot, and a `far` one, the
beacon's or that of its glyph in the strip. They are drawn independently, and the far cue is at least `GAP` pixels away
from every object, which is farther than the convolutions of the micro base model reach (43 pixels).

All arithmetic on pixels is in whole numbers, so that an image is the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
"""Pixels ``(side, side, 3)``, red first."""

Mask = NDArray[np.bool_]

COLOURS = ("red", "green")
"""The class names; a class is an index into them."""

GAP = 44
"""Least distance in pixels between an object and its far cue, edge to edge along the axis where they are farther apart
(Chebyshev), at the side a scene is designed for; it grows with the side."""

BEACON_SIDE = 96
LEGEND_SIDE = 128

_RGB = ((230, 60, 60), (60, 200, 60))
_GLYPHS = ("plus", "cross", "ring", "bars")
_INK = 35


class Area(NamedTuple):
    """A rectangle in pixels; ``right`` and ``bottom`` are the first column and row outside it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Thing:
    """An object to be detected.

    Attributes:
        area: Its tight box.
        near: Colour of its own dot, an index into `COLOURS`.
        far: Colour that the far cue gives it.
    """

    area: Area
    near: int
    far: int


@dataclass(frozen=True)
class Scene:
    """One image and what is on it.

    Attributes:
        image: The pixels.
        things: The objects, one to three.
        cue: Where the far cue is: the beacon or the strip.
    """

    picture: Picture
    things: tuple[Thing, ...]
    cue: Area


def generator(seed: int, *stream: int) -> Generator:
    """Return the source of randomness of one image, independent of every other image's.

    Args:
        seed: Seed of the data set.
        *stream: Which image, such as the number of its split and its index.
    """
    return Generator(PCG64(SeedSequence((seed, *stream))))


def beacon_scene(rng: Generator, side: int = BEACON_SIDE) -> Scene:
    """Draw objects with dots, and a beacon in one of the corners.

    Args:
        rng: Where the randomness comes from.
        side: Width and height in pixels.
    """

    def scaled(length: int) -> int:
        return round(length * side / BEACON_SIDE)

    picture = _background(rng, side)
    half = _uniform(rng, scaled(6), scaled(8))
    margins = _uniform(rng, scaled(1), scaled(3)), _uniform(rng, scaled(1), scaled(3))
    x, y = (margin + half if rng.integers(2) else side - 1 - margin - half for margin in margins)
    far = int(rng.integers(2))
    _paint(picture, x, y, _mask("square", half), _coloured(rng, far))

    cue, things = _square(x, y, half), []
    radii = [_uniform(rng, scaled(7), scaled(10)) for _ in range(_uniform(rng, 1, 3))]
    for x, y, radius in _places(rng, side, radii, cue, scaled(GAP)):
        near = int(rng.integers(2))
        _paint(picture, x, y, _mask(_one_of(rng, "circle", "square", "triangle"), radius), _grey(rng))
        _paint(picture, x, y, _mask("circle", max(2, radius // 3)), _coloured(rng, near))
        things.append(Thing(_square(x, y, radius), near, far))
    return Scene(picture, tuple(things), cue)


def legend_scene(rng: Generator, side: int = LEGEND_SIDE) -> Scene:
    """Draw objects with a glyph and a dot, and a strip that gives a colour to each glyph.

    Two of the four tiles are red and two green, so that the colour of the whole strip tells nothing; which glyph is on
    which tile is drawn anew for each image, so that its place in the strip tells nothing either.

    Args:
        rng: Where the randomness comes from.
        side: Width and height in pixels.
    """

    def scaled(length: int) -> int:
        return round(length * side / LEGEND_SIDE)

    picture = _background(rng, side)
    height, width = scaled(20), side // len(_GLYPHS)
    glyphs, colours = rng.permutation(len(_GLYPHS)), rng.permutation([0, 0, 1, 1])
    for place, (glyph, colour) in enumerate(zip(glyphs, colours, strict=True)):
        left = place * width
        picture[:height, left : left + width] = _coloured(rng, colour)
        _paint(picture, left + width // 2, height // 2, _mask(_GLYPHS[glyph], scaled(6)), (_INK,) * 3)
    meaning = dict(zip(glyphs.tolist(), colours.tolist(), strict=True))

    cue, things = Area(0, 0, side, height), []
    radii = [_uniform(rng, scaled(12), scaled(14)) for _ in range(_uniform(rng, 1, 3))]
    for x, y, radius in _places(rng, side, radii, cue, scaled(GAP)):
        near, glyph = int(rng.integers(2)), int(rng.integers(len(_GLYPHS)))
        _paint(picture, x, y, _mask(_one_of(rng, "circle", "square"), radius), _grey(rng))
        _paint(picture, x, y - radius // 3, _mask(_GLYPHS[glyph], radius // 2), (_INK,) * 3)
        _paint(picture, x, y + 2 * radius // 3, _mask("circle", radius // 4), _coloured(rng, near))
        things.append(Thing(_square(x, y, radius), near, meaning[glyph]))
    return Scene(picture, tuple(things), cue)


def _background(rng: Generator, side: int) -> Picture:
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


def _places(rng: Generator, side: int, radii: list[int], cue: Area, gap: int) -> list[tuple[int, int, int]]:
    """Choose a centre for each radius, uniformly among those that keep the distances; leave out what finds no room."""
    found: list[tuple[int, int, int]] = []
    y, x = np.ogrid[:side, :side]
    for radius in radii:
        free = (np.minimum(x, side - 1 - x) > radius) & (np.minimum(y, side - 1 - y) > radius)
        for area, least in [(cue, gap), *((_square(*other), 2) for other in found)]:
            across = np.maximum(area.left - (x + radius + 1), x - radius - area.right)  # (1, side)
            down = np.maximum(area.top - (y + radius + 1), y - radius - area.bottom)  # (side, 1)
            free &= np.maximum(across, down) >= least
        cells = np.flatnonzero(free)
        if len(cells):
            row, column = divmod(int(cells[rng.integers(len(cells))]), side)
            found.append((column, row, radius))
    return found


def _paint(picture: Picture, x: int, y: int, mask: Mask, rgb: tuple[int, ...]) -> None:
    """Colour the pixels of a mask centred at a pixel."""
    half = len(mask) // 2
    picture[y - half : y + half + 1, x - half : x + half + 1][mask] = rgb


def _square(x: int, y: int, half: int) -> Area:
    return Area(x - half, y - half, x + half + 1, y + half + 1)


@lru_cache(maxsize=256)
def _mask(shape: str, half: int) -> Mask:
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


def _grey(rng: Generator) -> tuple[int, ...]:
    return (_uniform(rng, 185, 234),) * 3


def _coloured(rng: Generator, colour: int) -> tuple[int, ...]:
    return tuple(channel + _uniform(rng, -25, 25) for channel in _RGB[colour])


def _one_of(rng: Generator, *names: str) -> str:
    return names[rng.integers(len(names))]


def _uniform(rng: Generator, low: int, high: int) -> int:
    """Draw a whole number, both ends included."""
    return int(rng.integers(low, high + 1))
