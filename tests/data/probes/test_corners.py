"""The probes of corners: what each part of an image can tell, counted out, and the leak that a first design had."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.random import Generator, default_rng
from tests.data.probes.decoding import scenes

from attngraft.data.probes.corners import STEP, ramp

DRAWS = 4000


def test_two_objects_of_a_relation_have_different_classes() -> None:
    numbers = [[thing.far for thing in scene.things] for scene in scenes("relation")]
    assert {tuple(sorted(far)) for far in numbers} == {(0,), (1,), (0, 1)}


def test_each_number_of_objects_has_a_quarter_of_the_objects() -> None:
    counts = np.array([len(scene.things) for scene in scenes("count")])
    shares = np.array([(counts == n).sum() * n for n in (1, 2, 3, 4)]) / counts.sum()
    assert abs(shares - 0.25).max() < 0.06
    assert all(thing.far == int(len(s.things) >= 3) for s in scenes("count") for thing in s.things)


def test_who_does_not_see_the_diagonal_corner_has_three_quarters_of_a_majority() -> None:
    """Of the other three dots two are seen: the best rule on them, over all patterns of dots, is right at .75."""
    right = [best_guess((a, b)) == int(a + b + c >= 2) for a, b, c in product((0, 1), repeat=3)]
    assert np.mean(right) == 0.75


def test_a_majority_of_all_four_dots_is_not_enough() -> None:
    """Who adds up its own dot too is right at 13 patterns of 16."""
    patterns = list(product((0, 1), repeat=4))
    best = {
        total: max((0, 1), key=lambda far: sum((sum(p) - p[0] >= 2) == far for p in patterns if sum(p) == total))
        for total in range(5)
    }
    assert np.mean([best[sum(p)] == (sum(p) - p[0] >= 2) for p in patterns]) == 13 / 16


def test_the_squares_of_a_comparison_alone_tell_little() -> None:
    """What they tell comes from values near the ends of the range; 1/2 would be nothing."""
    values, classes = zip(
        *((sorted(c.value for c in s.cues), s.things[0].far) for s in scenes("comparison")), strict=True
    )
    assert nearest_neighbours(np.array(values), np.array(classes)) < 0.8
    drawn, far = zip(*(comparison(default_rng(seed)) for seed in range(DRAWS)), strict=True)
    assert 0.66 < nearest_neighbours(np.array(drawn), np.array(far)) < 0.75


def test_the_first_design_of_a_comparison_leaked_and_this_test_sees_it() -> None:
    """One square above the object and the others below it, against all below: the outlier among the squares tells."""
    drawn, far = zip(*(leaking_rank(default_rng(seed)) for seed in range(DRAWS)), strict=True)
    assert nearest_neighbours(np.array(drawn), np.array(far)) > 0.97


def test_values_of_a_comparison_are_a_step_apart_and_on_the_ramp() -> None:
    for scene in scenes("comparison")[:100]:
        thing, top = scene.things[0], max(cue.value for cue in scene.cues)
        left, upper, right, bottom = thing.area
        own = (scene.image[(upper + bottom) // 2, (left + right) // 2, 0] - 40) / 200
        assert own - top == pytest.approx(STEP if thing.far else -STEP, abs=0.004)
        for cue in scene.cues:
            assert tuple(scene.image[cue.area.top, cue.area.left]) == ramp(cue.value)


def test_no_border_is_within_reach_in_a_far_relation() -> None:
    for scene in scenes("relbig")[:200]:
        for area in [thing.area for thing in scene.things] + [cue.area for cue in scene.cues]:
            assert min(area) >= 49
            assert max(area) <= 192 - 49


def best_guess(seen: tuple[int, int]) -> int:
    return int(np.mean([sum(seen) + hidden >= 2 for hidden in (0, 1)]) > 0.5)


def comparison(rng: Generator) -> tuple[list[float], int]:
    """Draw the squares' values as `comparison_scene` does, and the class."""
    own, far = rng.uniform(0.15, 0.85), int(rng.integers(2))
    return sorted((own + (-STEP if far else STEP)) * np.array([1, *rng.uniform(0.5, 1, 2)])), far


def leaking_rank(rng: Generator) -> tuple[list[float], int]:
    """Draw the squares' values as the first design did, and the class."""
    own, far = rng.uniform(0.15, 0.85), int(rng.integers(2))
    below = (own - STEP) * np.array([1, *rng.uniform(0.5, 1, 2)])
    if not far:
        below[0] = own + STEP
    return sorted(below), far


def nearest_neighbours(values: np.ndarray, classes: np.ndarray, k: int = 41) -> float:
    """Return how often the majority of the k nearest of one half gives the class in the other half."""
    half = len(values) // 2
    distances = ((values[half:, None] - values[None, :half]) ** 2).sum(-1)
    nearest = np.argpartition(distances, k, axis=1)[:, :k]
    return float(((classes[:half][nearest].mean(1) > 0.5) == classes[half:]).mean())
