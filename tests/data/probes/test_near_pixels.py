"""No pixel within reach of an object tells its class: an image that is as likely has those pixels and the other class.

It is found by drawing the image again with the choice turned around that decides the class (`replaying`). The tests of
`test_questions` look at attributes of objects; these see a single pixel that depends on the class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.random import Generator
from tests.data.probes.replaying import Choice, other, replayed

from attngraft.data.probes import PROBES
from attngraft.data.scenes import GAP, Scene, Thing, generator

IMAGES = 60
COINS: dict[str, tuple[Choice, ...]] = {
    # After the two coins of the beacon's corner comes that of its colour.
    "global": (("integers(2)", 2, other),),
    "xor": (("integers(2)", 2, other),),
    "legend": (("permutation([0, 0, 1, 1])", 0, other),),
    # The class, and which patches agree with it: a share above .3 is as likely as one below .7.
    "statistics": (("integers(2)", 3, other), ("random((12, 12))", 0, other), ("random((12, 12))", 1, other)),
    "reach": (("integers(2)", 3, other),),
    "comparison": (("integers(2)", 0, other),),
}
OPPOSITE = (("integers(4)", 0, lambda corner: corner ^ 3), ("integers(2)", 0, other))
"""The square in the opposite corner, and the object at the other side of it: it stays where it is."""


@pytest.mark.parametrize("name", sorted(COINS))
def test_an_image_of_the_other_class_has_the_same_pixels_near_each_object(name: str) -> None:
    for index in range(IMAGES):
        one, twin = PROBES[name].draw(generator(0, 0, index)), replayed(PROBES[name].draw, index, *COINS[name])
        for thing, again in zip(one.things, twin.things, strict=True):
            require_twins(name, one, thing, twin, again)


@pytest.mark.parametrize("name", ["relation", "relbig"])
def test_an_object_that_stays_has_the_other_class_with_the_square_in_the_opposite_corner(name: str) -> None:
    alone = 0
    for index in range(2 * IMAGES):
        one = PROBES[name].draw(generator(0, 0, index))
        if len(one.things) == 1:  # of two, one has either class, and the square tells which
            twin = replayed(PROBES[name].draw, index, *OPPOSITE)
            require_twins(name, one, one.things[0], twin, twin.things[0])
            alone += 1
    assert alone > IMAGES / 2


def test_the_other_three_dots_decide_a_majority_and_nothing_near() -> None:
    for index in range(IMAGES):
        one = PROBES["majority"].draw(generator(0, 0, index))
        for number, thing in enumerate(one.things):
            turn = np.arange(4) != number
            twin = replayed(
                PROBES["majority"].draw, index, ("integers(0, 2, 4)", 0, lambda dots, turn=turn: dots ^ turn)
            )
            require_twins("majority", one, thing, twin, twin.things[number])


def test_an_object_of_a_count_is_the_same_whatever_the_number() -> None:
    """How many there are, from a draw of 25, leaves the first objects as they are; which is first does not show."""
    number = {few: always(few) for few in (0, 12, 18, 22)}  # one to four
    for index in range(IMAGES):
        scenes = [replayed(PROBES["count"].draw, index, ("integers(25)", 0, change)) for change in number.values()]
        assert [len(scene.things) for scene in scenes] == [1, 2, 3, 4]
        require_twins("count", scenes[0], scenes[0].things[0], scenes[2], scenes[2].things[0])
        for place in range(2):
            require_twins("count", scenes[1], scenes[1].things[place], scenes[3], scenes[3].things[place])


def test_one_pixel_that_depends_on_the_class_is_seen() -> None:
    def leaking(rng: Generator) -> Scene:
        scene = PROBES["reach"].draw(rng)
        (thing,) = scene.things
        scene.image[thing.area.top - 1, thing.area.left] ^= np.uint8(thing.far)
        return scene

    def compare() -> None:
        for index in range(IMAGES):
            one, twin = leaking(generator(0, 0, index)), replayed(leaking, index, *COINS["reach"])
            require_twins("reach", one, one.things[0], twin, twin.things[0])

    with pytest.raises(AssertionError, match="reach"):
        compare()


def require_twins(name: str, one: Scene, thing: Thing, twin: Scene, again: Thing) -> None:
    """Require the other class, and the same box, own class and pixels nearer than `GAP`."""
    assert again == replace(thing, far=1 - thing.far), name
    left, top, right, bottom = thing.area
    rows, columns = slice(max(0, top - GAP + 1), bottom + GAP - 1), slice(max(0, left - GAP + 1), right + GAP - 1)
    changed = (one.image != twin.image).any(2)
    if name == "reach":  # whose square may be near
        square = one.cues[0].area
        changed[square.top : square.bottom, square.left : square.right] = False
    assert not changed[rows, columns].any(), name


def always(value: int) -> Callable[[object], int]:
    return lambda _: value
