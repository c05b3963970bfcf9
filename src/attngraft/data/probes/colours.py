"""Probes of colours: that of most of a far background, of a square at a distance, and of dot and beacon together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from attngraft.data.painting import Picture, background, coloured, mask, paint, paint_object, square, uniform
from attngraft.data.scenes import BEACON_SIDE, GAP, Cue, Scene, Thing, beacon_scene

SIDE = 96
PATCH = 8
TINT = 35
SHARE = 0.7
"""Chance of a far patch to have the tint of the class."""

GAPS = (4, 67)
"""Least and largest distance of the square of `reach_scene`, edge to edge."""


def statistics_scene(rng: Generator) -> Scene:
    """Draw an object near a corner on a background of patches tinted red or green.

    Patches nearer to the object than `GAP` pixels are tinted by fair coins; of the others most, in the mean, have the
    tint of the class. No near pixel tells it, so that chance is exact.

    Args:
        rng: Where the randomness comes from.
    """
    radius = uniform(rng, 7, 8)
    x, y = (radius + uniform(rng, 1, 11) for _ in range(2))
    x, y = (SIDE - 1 - at if rng.integers(2) else at for at in (x, y))
    area, near, far = square(x, y, radius), int(rng.integers(2)), int(rng.integers(2))
    starts = np.arange(0, SIDE, PATCH)
    across = np.maximum(area.left - (starts + PATCH), starts - area.right)
    down = np.maximum(area.top - (starts + PATCH), starts - area.bottom)
    is_far = np.maximum(across, down[:, None]) >= GAP
    count = len(starts)
    like_class = np.where(is_far, rng.random((count, count)) < SHARE, rng.random((count, count)) < 0.5)
    picture = _tinted(background(rng, SIDE), np.where(like_class, far, 1 - far))
    paint_object(rng, picture, x, y, radius, near)
    return Scene(picture, (Thing(area, near, far),))


def reach_scene(rng: Generator) -> Scene:
    """Draw an object, and along its row or column a red or green square at a distance drawn uniformly from `GAPS`.

    The class is the colour of the square. One training run gives accuracy by distance.

    Args:
        rng: Where the randomness comes from.
    """
    picture = background(rng, SIDE)
    radius, half, gap = uniform(rng, 7, 8), 4, uniform(rng, *GAPS)
    between = radius + 1 + gap + half  # from centre to centre
    start = uniform(rng, radius + 1, SIDE - 2 - between - half)
    most = min(gap, 12)
    beside = uniform(rng, radius + 1, SIDE - 2 - radius)
    other = uniform(rng, max(half + 1, beside - most), min(SIDE - 2 - half, beside + most))
    first, second = (start, beside), (start + between, other)
    if rng.integers(2):
        first, second = (SIDE - 1 - first[0], first[1]), (SIDE - 1 - second[0], second[1])
    if rng.integers(2):
        first, second = first[::-1], second[::-1]
    near, far = int(rng.integers(2)), int(rng.integers(2))
    paint(picture, *second, mask("square", half), coloured(rng, far))
    area = paint_object(rng, picture, *first, radius, near)
    return Scene(picture, (Thing(area, near, far),), (Cue(square(*second, half), far),))


def xor_scene(rng: Generator) -> Scene:
    """Draw a beacon scene; the class is red where an object's dot has the colour of the beacon, green otherwise.

    Args:
        rng: Where the randomness comes from.
    """
    scene = beacon_scene(rng, BEACON_SIDE)
    return replace(scene, things=tuple(replace(thing, far=thing.near ^ thing.far) for thing in scene.things))


def _tinted(picture: Picture, colours: np.ndarray[tuple[int, ...], np.dtype[np.int_]]) -> Picture:
    """Shift each patch towards red (0) or green (1)."""
    shift = np.kron(np.where(colours, -TINT, TINT), np.ones((PATCH, PATCH), int))
    tinted = picture.astype(int)
    tinted[..., 0] += shift
    tinted[..., 1] -= shift
    result: Picture = tinted.clip(0, 255).astype(np.uint8)
    return result
