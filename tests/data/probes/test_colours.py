"""The probes of colours: exact chance near the object, every distance, and no part of an exclusive or that tells."""

from __future__ import annotations

import numpy as np
import pytest
from tests.data.probes.decoding import dot, outside, scenes

from attngraft.data.painting import Area, chebyshev
from attngraft.data.probes.colours import GAPS, SHARE
from attngraft.data.scenes import GAP


def patches(box: Area) -> list[tuple[int, int, int]]:
    """List the corners of the patches that no object covers, with how far they are from it."""
    left, top, right, bottom = box
    starts = range(0, 96, 8)
    gaps = [(x, y, max(left - x - 8, x - right, top - y - 8, y - bottom)) for y in starts for x in starts]
    return [(x, y, gap) for x, y, gap in gaps if gap >= 0]


def test_near_patches_are_fair_coins_and_far_ones_lean_to_the_class() -> None:
    near, far = [], []
    for scene in scenes("statistics")[:200]:
        (thing,) = scene.things
        for x, y, gap in patches(thing.area):
            patch = scene.image[y : y + 8, x : x + 8].astype(int)
            like = (patch[..., 1].mean() > patch[..., 0].mean()) == thing.far
            (far if gap >= GAP else near).append(like)
    assert np.mean(near) == pytest.approx(0.5, abs=0.02)
    assert np.mean(far) == pytest.approx(SHARE, abs=0.02)


def test_the_far_patches_decide() -> None:
    """Of a background of 144 patches 63 to 80 are far; their majority is right nearly always."""
    for scene in scenes("statistics")[:100]:
        assert 60 <= sum(gap >= GAP for _, _, gap in patches(scene.things[0].area)) <= 84


def test_the_square_stands_at_every_distance_equally_often() -> None:
    gaps = np.array([chebyshev(s.things[0].area, s.cues[0].area) for s in scenes("reach")])
    low, high = GAPS
    assert (gaps.min(), gaps.max()) == (low, high)
    counts = np.histogram(gaps, np.linspace(low, high + 1, 9))[0]
    assert ((counts - len(gaps) / 8) ** 2 / (len(gaps) / 8)).sum() < 18.5  # chi-squared, 7 degrees of freedom, 1 %


def test_the_square_stands_on_all_four_sides() -> None:
    sides = set()
    for scene in scenes("reach"):
        thing, cue = scene.things[0].area, scene.cues[0].area
        sides |= {("right", cue.left >= thing.right + 20), ("left", thing.left >= cue.right + 20)}
        sides |= {("below", cue.top >= thing.bottom + 20), ("above", thing.top >= cue.bottom + 20)}
    assert len(sides) == 8


def test_neither_part_of_an_exclusive_or_tells_the_class() -> None:
    near, beacon, far = np.array([(s.things[0].near, s.cues[0].value, s.things[0].far) for s in scenes("xor")]).T
    assert (near != beacon).astype(int).tolist() == far.tolist()
    for part in (near, beacon):
        assert np.corrcoef(part, far)[0, 1] ** 2 * len(far) < 6.63  # chi-squared, one degree of freedom, 1 %


def test_a_beacon_scene_and_its_exclusive_or_have_the_same_pixels() -> None:
    for plain, other in zip(scenes("global")[:20], scenes("xor")[:20], strict=True):
        assert (plain.image == other.image).all()
        assert [t.near for t in plain.things] == [t.near for t in other.things]


def test_the_dot_and_the_square_are_what_the_scene_says() -> None:
    for scene in scenes("reach")[:100]:
        box, cue = scene.things[0].area, scene.cues[0]
        assert dot(scene.image, box) == scene.things[0].near
        assert dot(scene.image, cue.area) == cue.value
        saturated = abs(np.diff(outside(scene.image, [box])[..., :2], axis=-1)[..., 0]) > 85
        rows, columns = np.nonzero(saturated)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == cue.area
