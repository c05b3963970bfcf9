"""Draw the images of the beacons data set, on which seeing far decides the class by construction.

Two kinds of scene. In a **beacon** scene one square in a corner is red or green; in a **legend** scene a strip along
the top shows four glyphs on red or green tiles, and every object carries one of the glyphs. In both, each object also
has a small red or green dot of its own. So every object has two colours: a `near` one, its dot, and a `far` one, the
beacon's or that of its glyph in the strip. They are drawn independently, and the far cue is at least `GAP` pixels away
from every object, which is farther than the convolutions of the micro base model reach (43 pixels).

All arithmetic on pixels is in integers, so that an image is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import PCG64, Generator, SeedSequence

from attngraft.data.painting import (
    GLYPHS,
    Area,
    Picture,
    background,
    coloured,
    grey,
    mask,
    one_of,
    paint,
    paint_object,
    places,
    square,
    uniform,
)

GAP = 44
"""Least distance in pixels between an object and its far cue, edge to edge along the axis where they are farther apart
(Chebyshev), at the side a scene is designed for; it grows with the side."""

BEACON_SIDE = 96
LEGEND_SIDE = 128

_INK = 35


@dataclass(frozen=True)
class Thing:
    """An object to be detected.

    Attributes:
        area: Its tight box.
        near: Class that its own pixels give it, such as the colour of its dot, an index into `COLOURS`.
        far: Class that what is far away gives it.
    """

    area: Area
    near: int
    far: int


@dataclass(frozen=True)
class Cue:
    """Something that is no object and tells the class of one.

    Attributes:
        area: Where it is.
        value: What it says: an index into `COLOURS`, or a value on a ramp of colours; 0 where that is no number.
    """

    area: Area
    value: float = 0


@dataclass(frozen=True)
class Scene:
    """One image and what is on it.

    Attributes:
        image: The pixels.
        things: The objects.
        cues: The far cues that are no objects themselves.
    """

    image: Picture
    things: tuple[Thing, ...]
    cues: tuple[Cue, ...] = ()

    @property
    def cue(self) -> Area:
        """Where the far cue is, of a scene with one: the beacon or the strip."""
        return self.cues[0].area


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

    picture = background(rng, side)
    half = uniform(rng, scaled(6), scaled(8))
    margins = uniform(rng, scaled(1), scaled(3)), uniform(rng, scaled(1), scaled(3))
    x, y = (margin + half if rng.integers(2) else side - 1 - margin - half for margin in margins)
    far = int(rng.integers(2))
    paint(picture, x, y, mask("square", half), coloured(rng, far))

    cue, things = Cue(square(x, y, half), far), []
    radii = [uniform(rng, scaled(7), scaled(10)) for _ in range(uniform(rng, 1, 3))]
    for x, y, radius in places(rng, side, radii, cue.area, scaled(GAP)):
        near = int(rng.integers(2))
        things.append(Thing(paint_object(rng, picture, x, y, radius, near), near, far))
    return Scene(picture, tuple(things), (cue,))


def legend_scene(rng: Generator, side: int = LEGEND_SIDE) -> Scene:
    """Draw objects with a glyph and a dot, and a strip that gives a colour to each glyph.

    Two of the four tiles are red and two green, so that the colour of the whole strip tells nothing; which glyph is on
    which tile is redrawn for each image, so that its place in the strip tells nothing either.

    Args:
        rng: Where the randomness comes from.
        side: Width and height in pixels.
    """

    def scaled(length: int) -> int:
        return round(length * side / LEGEND_SIDE)

    picture = background(rng, side)
    height, width = scaled(20), side // len(GLYPHS)
    glyphs, colours = rng.permutation(len(GLYPHS)), rng.permutation([0, 0, 1, 1])
    for place, (glyph, colour) in enumerate(zip(glyphs, colours, strict=True)):
        left = place * width
        picture[:height, left : left + width] = coloured(rng, colour)
        paint(picture, left + width // 2, height // 2, mask(GLYPHS[glyph], scaled(6)), (_INK,) * 3)
    meaning = dict(zip(glyphs.tolist(), colours.tolist(), strict=True))

    cue, things = Cue(Area(0, 0, side, height)), []
    radii = [uniform(rng, scaled(12), scaled(14)) for _ in range(uniform(rng, 1, 3))]
    for x, y, radius in places(rng, side, radii, cue.area, scaled(GAP)):
        near, glyph = int(rng.integers(2)), int(rng.integers(len(GLYPHS)))
        paint(picture, x, y, mask(one_of(rng, "circle", "square"), radius), grey(rng))
        paint(picture, x, y - radius // 3, mask(GLYPHS[glyph], radius // 2), (_INK,) * 3)
        paint(picture, x, y + 2 * radius // 3, mask("circle", radius // 4), coloured(rng, near))
        things.append(Thing(square(x, y, radius), near, meaning[glyph]))
    return Scene(picture, tuple(things), (cue,))
