"""Draw the images of the factors data set: five things that vary independently, of which a detector learns one.

A beacon of one of six colours stands in one of four corners, and one to three grey objects of one shape stand far from
it, on a background of one texture. Who is trained to tell one of these factors sees the others too, and may keep or
drop them: what is left of each in its features can be measured, as every image says what it shows.

All arithmetic on pixels is in integers, so that an image is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from attngraft.data import painting
from attngraft.data.painting import Area, Picture
from attngraft.data.scenes import BEACON_SIDE, GAP

FACTORS: Mapping[str, tuple[str, ...]] = {
    "colour": ("red", "green", "blue", "yellow", "magenta", "cyan"),
    "shape": ("circle", "square", "triangle", "plus"),
    "count": ("one", "two", "three"),
    "corner": ("upper left", "upper right", "lower left", "lower right"),
    "texture": ("plain", "stripes", "checks", "dots"),
}
"""The factors of an image, and the names of their values; a value is an index into them."""

_RGB = ((220, 50, 50), (50, 190, 50), (50, 80, 220), (215, 200, 40), (205, 50, 205), (40, 195, 205))
_CONTRAST = 14


@dataclass(frozen=True)
class FactorScene:
    """One image and what is on it.

    Attributes:
        image: The pixels.
        areas: Tight boxes of the objects, as many as the factor says.
        cue: The box of the beacon.
        factors: The value of each factor.
    """

    image: Picture
    areas: tuple[Area, ...]
    cue: Area
    factors: Mapping[str, int]


def draw_factors(rng: Generator) -> dict[str, int]:
    """Draw a value of each factor, evenly and independently.

    Args:
        rng: Where the randomness comes from.
    """
    return {name: int(rng.integers(len(values))) for name, values in FACTORS.items()}


def factor_scene(rng: Generator, side: int = BEACON_SIDE) -> FactorScene:
    """Draw the factors of an image, and the image.

    The beacon is at least `attngraft.data.scenes.GAP` pixels away from every object, as in the beacons data set.

    Args:
        rng: Where the randomness comes from.
        side: Width and height in pixels.
    """

    def scaled(length: int) -> int:
        return round(length * side / BEACON_SIDE)

    factors = draw_factors(rng)
    picture = _textured(rng, painting.background(rng, side), FACTORS["texture"][factors["texture"]], scaled(6))
    half = painting.uniform(rng, scaled(6), scaled(8))
    down, right = divmod(factors["corner"], 2)
    margins = painting.uniform(rng, scaled(1), scaled(3)), painting.uniform(rng, scaled(1), scaled(3))
    x, y = (
        side - 1 - margin - half if far else margin + half for margin, far in zip(margins, (right, down), strict=True)
    )
    painting.paint(picture, x, y, painting.mask("square", half), _near(rng, _RGB[factors["colour"]]))

    cue = painting.square(x, y, half)
    areas = []
    for x, y, radius in _places(rng, side, factors["count"] + 1, cue, scaled(7), scaled(10), scaled(GAP)):
        mask = painting.mask(FACTORS["shape"][factors["shape"]], radius)
        painting.paint(picture, x, y, mask, painting.grey(rng))
        areas.append(painting.square(x, y, radius))
    return FactorScene(picture, tuple(areas), cue, factors)


def _places(
    rng: Generator, side: int, count: int, cue: Area, least: int, most: int, gap: int
) -> list[tuple[int, int, int]]:
    """Place so many objects, again until all find room, so that their number is what was drawn."""
    while True:
        radii = [painting.uniform(rng, least, most) for _ in range(count)]
        found = painting.places(rng, side, radii, cue, gap)
        if len(found) == count:
            return found


def _textured(rng: Generator, picture: Picture, texture: str, width: int) -> Picture:
    """Lay a texture of parts of some pixels' width over a background, as much lighter as darker."""
    shift = rng.integers(0, 2 * width, 2)
    y, x = np.ogrid[: len(picture), : len(picture)]
    x, y = x + shift[0], y + shift[1]
    light: dict[str, NDArray[np.bool_]] = {
        "stripes": (x // width + 0 * y) % 2 == 0,
        "checks": (x // width + y // width) % 2 == 0,
        "dots": (x % (2 * width) - width) ** 2 + (y % (2 * width) - width) ** 2 < width * width * 16 // 25,
    }
    if texture == "plain":
        return picture
    step = np.where(light[texture], _CONTRAST, -_CONTRAST)[..., None]
    return (picture.astype(np.int16) + step).clip(0, 255).astype(np.uint8)


def _near(rng: Generator, rgb: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(channel + painting.uniform(rng, -25, 25) for channel in rgb)
