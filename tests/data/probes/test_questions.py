"""What makes every probe a proof: it can be solved, flips keep its classes, and nothing near an object tells them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

import numpy as np
import pytest
from tests.data.probes.decoding import DECODERS, centre, dot, flipped, scenes

from attngraft._core.errors import UnknownNameError
from attngraft.data.painting import chebyshev
from attngraft.data.probes import PROBES, probe_named
from attngraft.data.scenes import GAP, Scene, Thing, generator

FAR = sorted(set(PROBES) - {"reach"})
GOLDEN = {
    "comparison": "2fa66d65738f7ce5",
    "count": "ff25582cd23eeb6f",
    "global": "ac0c6c77856990c6",
    "legend": "18e951b8e0eefecf",
    "majority": "c82f065b476bbe86",
    "reach": "459d6a85c5a5989c",
    "relation": "f076e384a0395ec8",
    "relbig": "dcdae282aa0d8d79",
    "statistics": "b528df5fe3abf419",
    "xor": "58cc684965e91cc5",
}


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_pixels_tell_the_class(name: str) -> None:
    right = [
        found == thing.far
        for scene in scenes(name)[:200]
        for found, thing in zip(DECODERS[name](scene.image, [t.area for t in scene.things]), scene.things, strict=True)
    ]
    assert np.mean(right) >= (0.99 if name == "statistics" else 1.0)


@pytest.mark.parametrize("across", [True, False], ids=["left-right", "upside-down"])
@pytest.mark.parametrize("name", sorted(DECODERS))
def test_a_flip_keeps_the_classes(name: str, across: bool) -> None:
    """Training flips images both ways, so a class that a flip changes would be a wrong label."""
    for scene in scenes(name)[:60]:
        boxes = [thing.area for thing in scene.things]
        assert DECODERS[name](*flipped(scene.image, boxes, across=across)) == DECODERS[name](scene.image, boxes)


@pytest.mark.parametrize("name", sorted(PROBES))
def test_the_best_rule_on_an_objects_own_attributes_is_at_chance(name: str) -> None:
    """Learned on one half of the objects, tried on the other: control class, corner and size say nothing."""
    side = PROBES[name].side
    drawn = [(own_attributes(t, side), t.far) for s in scenes(name) for t in s.things]
    half = len(drawn) // 2
    votes: defaultdict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for attributes, far in drawn[:half]:
        votes[attributes][far] += 1
    right = np.mean([votes[a].most_common(1)[0][0] == far if a in votes else False for a, far in drawn[half:]])
    # Objects of one image may share a class, so that images count: three standard errors and a half of them.
    assert right < 0.5 + 3.5 * 0.5 / (len(scenes(name)) / 2) ** 0.5


@pytest.mark.parametrize("name", sorted(PROBES))
def test_probe_and_control_are_independent_and_even(name: str) -> None:
    near, far = np.array([(s.things[0].near, s.things[0].far) for s in scenes(name)]).T
    assert np.corrcoef(near, far)[0, 1] ** 2 * len(near) < 6.63  # chi-squared, one degree of freedom, 1 %
    for classes in (near, np.array([t.far for s in scenes(name) for t in s.things])):
        assert abs(classes.mean() - 0.5) < 0.05  # an uneven class is a rule that needs no pixel: .6 would fail


@pytest.mark.parametrize("name", FAR)
def test_what_tells_the_class_is_out_of_reach(name: str) -> None:
    gaps = [
        chebyshev(thing.area, other)
        for scene in scenes(name)
        for index, thing in enumerate(scene.things)
        for other in far_things(name, scene, index)
    ]
    least = {"global": GAP, "legend": GAP, "xor": GAP, "relation": 49, "relbig": 49, "comparison": 54}.get(name, 48)
    assert min(gaps, default=least) >= least
    assert min(gaps, default=least) <= least + 4  # as near as they may be: no empty band besides


@pytest.mark.parametrize("name", sorted(PROBES))
def test_boxes_are_whole_and_apart(name: str) -> None:
    for scene in scenes(name)[:200]:
        boxes = [thing.area for thing in scene.things]
        everything = boxes + ([cue.area for cue in scene.cues] if name != "legend" else [])
        assert scene.image.shape == (PROBES[name].side,) * 2 + (3,)
        assert all(min(box) > 0 and max(box) < PROBES[name].side for box in boxes)
        assert all(chebyshev(one, other) >= 2 for i, one in enumerate(everything) for other in everything[:i])


@pytest.mark.parametrize("name", sorted(PROBES))
def test_the_pixels_are_those_of_version_1(name: str) -> None:
    """A change here must raise `attngraft.data.folder.VERSION`; the new hash is printed by the failing assert."""
    digest = hashlib.sha256()
    for scene in scenes(name)[:20]:
        digest.update(scene.image.tobytes() + repr(scene.things).encode())
    assert digest.hexdigest()[:16] == GOLDEN[name]


@pytest.mark.parametrize("name", sorted(PROBES))
def test_an_image_depends_on_its_own_stream_only(name: str) -> None:
    draw = PROBES[name].draw
    first = draw(generator(3, 0, 5))
    again = draw(generator(3, 0, 5))
    assert (first.image == again.image).all()
    assert first.things == again.things
    assert (draw(generator(3, 0, 6)).image != first.image).any()


def test_the_control_is_the_objects_own_dot() -> None:
    for name in set(DECODERS) - {"comparison"}:
        for scene in scenes(name)[:40]:
            assert [dot(scene.image, t.area) for t in scene.things] == [t.near for t in scene.things]


def test_an_unknown_probe_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="no probe is called 'majorty'; did you mean majority"):
        probe_named("majorty")


def own_attributes(thing: Thing, side: int) -> tuple[int, ...]:
    x, y = centre(thing.area)
    return thing.near, int(x > side / 2), int(y > side / 2), thing.area.right - thing.area.left


def far_things(name: str, scene: Scene, index: int) -> list:
    """List the areas that tell the class of an object."""
    if name in ("majority", "count"):
        return [other.area for number, other in enumerate(scene.things) if number != index]
    return [cue.area for cue in scene.cues]
