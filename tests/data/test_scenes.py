"""What makes the data set a proof: how far the cue is, and that nothing nearer tells the class."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from attngraft.data.scenes import GAP, Area, Scene, beacon_scene, generator, legend_scene

Draw = Callable[..., Scene]
DESIGNS = [pytest.param(beacon_scene, 96, id="beacon"), pytest.param(legend_scene, 128, id="legend")]


def scenes(draw: Draw, side: int, count: int) -> list[Scene]:
    return [draw(generator(0, 0, index), side) for index in range(count)]


def gap(one: Area, other: Area) -> int:
    """Count the pixels between two areas along the axis where they are farther apart."""
    across = max(one.left - other.right, other.left - one.right)
    down = max(one.top - other.bottom, other.top - one.bottom)
    return max(across, down)


@pytest.mark.parametrize(("draw", "side"), DESIGNS)
@pytest.mark.parametrize("scale", [1, 2])
def test_the_cue_is_far_from_every_object(draw: Draw, side: int, scale: int) -> None:
    gaps = [gap(thing.area, s.cue) for s in scenes(draw, side * scale, 60) for thing in s.things]
    assert min(gaps) >= GAP * scale
    assert min(gaps) < (GAP + 5) * scale  # objects come as near as they may: no empty band besides


@pytest.mark.parametrize(("draw", "side"), DESIGNS)
def test_objects_are_whole_apart_and_one_to_three(draw: Draw, side: int) -> None:
    drawn = scenes(draw, side, 80)
    assert {len(s.things) for s in drawn} == {1, 2, 3}
    for s in drawn:
        assert all(min(thing.area) > 0 and max(thing.area) < side for thing in s.things)
        assert all(gap(one.area, other.area) >= 2 for one, other in combinations(s.things, 2))


def test_everything_grows_with_the_side() -> None:
    sizes = {
        side: [t.area.right - t.area.left for s in scenes(beacon_scene, side, 40) for t in s.things]
        for side in (96, 192)
    }
    beacons = {side: {s.cue.right - s.cue.left for s in scenes(beacon_scene, side, 40)} for side in (96, 192)}
    assert (min(sizes[96]), max(sizes[96])) == (15, 21)
    assert (min(sizes[192]), max(sizes[192])) == (29, 41)
    assert beacons[96] == {13, 15, 17}
    assert (min(beacons[192]), max(beacons[192])) == (25, 33)


@pytest.mark.parametrize(("draw", "side"), DESIGNS)
def test_the_two_colours_are_independent_and_even(draw: Draw, side: int) -> None:
    drawn = scenes(draw, side, 300)
    # One object an image: those of one image share their beacon.
    near, far = np.array([(s.things[0].near, s.things[0].far) for s in drawn]).T
    assert np.corrcoef(near, far)[0, 1] ** 2 * len(drawn) < 3.84  # chi-squared, one degree of freedom, 5 %
    assert abs(near.mean() - 0.5) < 0.08
    assert abs(far.mean() - 0.5) < 0.08


def test_a_beacon_picture_shows_what_its_scene_says() -> None:
    for s in scenes(beacon_scene, 96, 60):
        left, top, right, bottom = s.cue
        assert _colour(s, (left + right) // 2, (top + bottom) // 2) == s.things[0].far
        assert {thing.far for thing in s.things} == {s.things[0].far}
        for thing in s.things:
            left, top, right, bottom = thing.area
            assert _colour(s, (left + right) // 2, (top + bottom) // 2) == thing.near


def test_a_box_is_tight() -> None:
    """Objects are evenly grey and nothing of the background is, so their pixels can be found again."""
    for s in scenes(beacon_scene, 96, 40):
        for thing in s.things:
            left, top, right, bottom = thing.area
            around = s.image[top - 1 : bottom + 1, left - 1 : right + 1].astype(int)
            grey = (np.ptp(around, axis=2) == 0) & (around[..., 0] >= 185)
            rows, columns = np.flatnonzero(grey.any(1)), np.flatnonzero(grey.any(0))
            assert (rows[0], rows[-1], columns[0], columns[-1]) == (1, len(grey) - 2, 1, grey.shape[1] - 2)


def test_a_legend_gives_each_object_the_colour_of_its_glyph() -> None:
    for s in scenes(legend_scene, 128, 60):
        tiles = [s.image[:20, 32 * place : 32 * place + 32] for place in range(4)]
        assert sorted(_colour(s, 32 * place + 1, 1) for place in range(4)) == [0, 0, 1, 1]
        for thing in s.things:
            left, top, right, _ = thing.area
            radius = (right - left) // 2
            x, y = left + radius, top + radius - radius // 3
            glyph = s.image[y - 6 : y + 7, x - 6 : x + 7]
            # The ink of a tile's glyph and of an object's is the same set of pixels when both are 13 wide.
            if radius < 14:
                inks = [(tile[4:17, 10:23] == 35).all(2) for tile in tiles]
                same = [place for place in range(4) if (inks[place] == (glyph == 35).all(2)).all()]
                assert [_colour(s, 32 * place + 1, 1) for place in same] == [thing.far]


def test_the_place_of_a_glyph_tells_nothing() -> None:
    first = [(s.image[4:17, 10:23] == 35).all(2).tobytes() for s in scenes(legend_scene, 128, 100)]
    counts = [first.count(glyph) for glyph in set(first)]
    assert len(counts) == 4
    assert min(counts) > 10


@pytest.mark.parametrize(
    ("draw", "side", "golden"),
    [
        (beacon_scene, 96, "4d0352c4b61f170e"),
        (beacon_scene, 160, "abc28ae69a494a1f"),
        (legend_scene, 128, "3537d1a3503d209d"),
    ],
    ids=["beacon-96", "beacon-160", "legend-128"],
)
def test_the_pixels_are_those_of_version_1(draw: Draw, side: int, golden: str) -> None:
    """A change here must raise `attngraft.data.folder.VERSION`; the new hash is printed by the failing assert."""
    digest = hashlib.sha256()
    for s in scenes(draw, side, 20):
        digest.update(s.image.tobytes() + repr((s.things, s.cue)).encode())
    assert digest.hexdigest()[:16] == golden


def test_a_picture_depends_on_its_own_stream_only() -> None:
    first = beacon_scene(generator(3, 0, 5)).image
    assert (beacon_scene(generator(3, 0, 5)).image == first).all()
    for other in [(3, 0, 6), (3, 1, 5), (4, 0, 5)]:
        assert (beacon_scene(generator(*other)).image != first).any()


def _colour(scene: Scene, x: int, y: int) -> int:
    """Return 0 where a pixel is more red than green, 1 where it is more green."""
    red, green, _ = scene.image[y, x].astype(int)
    assert abs(red - green) > 60
    return int(green > red)
