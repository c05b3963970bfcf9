"""Probes whose things stand in the corners: relation, majority, count, comparison.

A thing stands 1 to 5 pixels from both borders of its corner. On 96 pixels two of them are then 48 pixels apart or more,
edge to edge along the axis where they are farther apart: farther than the base model without attention sees.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from attngraft.data.painting import (
    Area,
    Picture,
    background,
    grey,
    mask,
    paint,
    paint_object,
    square,
    uniform,
)
from attngraft.data.scenes import Cue, Scene, Thing

SIDE = 96
MARGIN = 48
"""Pixels of background around the scene of a relation, so that no border is within reach of a thing."""

RIGHT, BELOW = 1, 2
"""A corner is a number of 0 to 3; these bits say on which sides it is."""

STEP = 0.15
"""How far the value of an object is above or below the highest of the squares."""

SHAPES = ("circle", "square")

_BLUE = (60, 90, 230)


def relation_scene(rng: Generator) -> Scene:
    """Draw a blue square in a corner, and an object in one of the two corners beside it, or in both.

    The class is 0 where the square lies along the object's row, 1 along its column. Two objects of one image have
    different classes, so that no vector added alike to all cells gives both. Flips leave a class what it is.

    Args:
        rng: Where the randomness comes from.
    """
    return _relation(rng, 0)


def far_relation_scene(rng: Generator) -> Scene:
    """Draw a relation scene with `MARGIN` pixels of background around it.

    No border is within reach of the square or an object, so that padding tells no cell where it is.

    Args:
        rng: Where the randomness comes from.
    """
    return _relation(rng, MARGIN)


def majority_scene(rng: Generator) -> Scene:
    """Draw four objects, one a corner; the class of each is the colour that most of the other three dots have.

    Args:
        rng: Where the randomness comes from.
    """
    picture = background(rng, SIDE)
    dots = rng.integers(0, 2, 4).tolist()
    things = []
    for corner, near in enumerate(dots):
        area = _object(rng, picture, corner, uniform(rng, 8, 9), near)
        things.append(Thing(area, near, int(sum(dots) - near >= 2)))
    return Scene(picture, tuple(things))


def count_scene(rng: Generator) -> Scene:
    """Draw one to four objects in corners; the class of all is 1 where there are three or four.

    How many there are is drawn so that each number has a quarter of the objects: one 12 times in 25, two 6 times, three
    4 times, four 3 times.

    Args:
        rng: Where the randomness comes from.
    """
    picture = background(rng, SIDE)
    number = int(np.searchsorted([12, 18, 22], rng.integers(25), side="right")) + 1
    things = []
    for corner in rng.permutation(4)[:number].tolist():
        near = int(rng.integers(2))
        area = _object(rng, picture, corner, uniform(rng, 8, 9), near)
        things.append(Thing(area, near, int(number >= 3)))
    return Scene(picture, tuple(things))


def comparison_scene(rng: Generator) -> Scene:
    """Draw an object with a disc and, in the other corners, three squares, all on a ramp of colours from blue to red.

    The class is 1 where the object is `STEP` above the highest square, 0 where it is as much below. The other two
    squares are shares of the highest in both classes, so that the squares tell little without the object. What the
    object's own pixels give it is its shape.

    Args:
        rng: Where the randomness comes from.
    """
    picture = background(rng, SIDE)
    first, *others = rng.permutation(4).tolist()
    own, far, near = rng.uniform(0.15, 0.85), int(rng.integers(2)), int(rng.integers(2))
    radius = uniform(rng, 8, 9)
    x, y = place_in_corner(rng, first, radius)
    paint(picture, x, y, mask(SHAPES[near], radius), grey(rng))
    paint(picture, x, y, mask("circle", 5), ramp(own))
    values = (own - STEP if far else own + STEP) * np.array([1, *rng.uniform(0.5, 1, 2)])
    cues = []
    for corner, value in zip(others, rng.permutation(values).tolist(), strict=True):
        at = place_in_corner(rng, corner, 6)
        paint(picture, *at, mask("square", 6), ramp(value))
        cues.append(Cue(square(*at, 6), value))
    return Scene(picture, (Thing(square(x, y, radius), near, far),), tuple(cues))


def ramp(value: float) -> tuple[int, ...]:
    """Return the colour of a value of 0 to 1, from blue to red."""
    return round(40 + 200 * value), 60, round(240 - 200 * value)


def place_in_corner(rng: Generator, corner: int, half: int) -> tuple[int, int]:
    """Return a centre 1 to 5 pixels from both borders of a corner.

    Args:
        rng: Where the randomness comes from.
        corner: Which (`RIGHT`, `BELOW`).
        half: Pixels from the centre to the edge of what stands there.
    """
    x, y = uniform(rng, 1, 5) + half, uniform(rng, 1, 5) + half
    return SIDE - 1 - x if corner & RIGHT else x, SIDE - 1 - y if corner & BELOW else y


def _relation(rng: Generator, margin: int) -> Scene:
    picture = background(rng, SIDE + 2 * margin)
    corner, half = int(rng.integers(4)), uniform(rng, 6, 8)
    x, y = place_in_corner(rng, corner, half)
    paint(picture, x + margin, y + margin, mask("square", half), _BLUE)
    cue = Cue(square(x + margin, y + margin, half))
    first = int(rng.integers(2))
    things = []
    for far in (0, 1) if rng.integers(2) else (first,):
        near = int(rng.integers(2))
        area = _object(rng, picture, corner ^ (BELOW if far else RIGHT), uniform(rng, 7, 9), near, margin)
        things.append(Thing(area, near, far))
    return Scene(picture, tuple(things), (cue,))


def _object(rng: Generator, picture: Picture, corner: int, radius: int, dot: int, margin: int = 0) -> Area:
    x, y = place_in_corner(rng, corner, radius)
    return paint_object(rng, picture, x + margin, y + margin, radius, dot)
