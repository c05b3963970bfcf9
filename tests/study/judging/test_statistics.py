"""Estimates, intervals and adjustments against textbook forms, and against simulated truth where there is none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from attngraft.study import Estimate, Resampled, estimate, power, seeds_for
from attngraft.study.judging.bootstrap import image_weights
from attngraft.study.judging.statistics import gatekeep, halve, holm, probability, quantile, rounding, rounding_variance


def seeds_only(*differences: float) -> Resampled:
    """Differences that do not depend on the images."""
    observed = np.array(differences)
    return Resampled(observed, np.tile(observed[:, None], (1, 10)), 100)


def test_without_image_noise_it_is_the_paired_t_interval() -> None:
    differences = (0.3, -0.1, 0.5, 0.4, 0.2)
    now = estimate(seeds_only(*differences))
    expected = stats.ttest_1samp(differences, 0)
    assert now.interval(0.9) == pytest.approx(expected.confidence_interval(0.9))
    assert now.p_value == pytest.approx(expected.pvalue)
    assert (now.seeds, now.image_sd, now.share) == (5, pytest.approx(0), pytest.approx(1))


def test_the_two_parts_of_the_variance_are_found_and_counted_once() -> None:
    rng = np.random.default_rng(0)
    seeds, images, sd = 4, 60, {"seed": 0.5, "image": 0.4, "both": 0.8}
    found = []
    for _ in range(300):
        of_seed = rng.normal(0, sd["seed"], (seeds, 1))
        of_image = rng.normal(0, sd["image"] * np.sqrt(images), (1, images))
        of_both = rng.normal(0, sd["both"] * np.sqrt(images), (seeds, images))
        value = of_seed + of_image + of_both
        weights = image_weights(images, 150, rng) / images
        found.append(estimate(Resampled(value.mean(1), value @ weights.T, images, correction=images / (images - 1))))
    assert np.mean([now.image_sd**2 for now in found]) == pytest.approx(sd["image"] ** 2, rel=0.2)
    assert np.mean([now.seed_sd**2 for now in found]) == pytest.approx(sd["seed"] ** 2 + sd["both"] ** 2, rel=0.1)
    spread = np.var([now.difference for now in found])
    assert np.mean([now.error**2 for now in found]) == pytest.approx(spread, rel=0.2)


def test_the_image_part_has_the_degrees_of_freedom_of_the_images() -> None:
    images_only = Estimate(1000, 0.3, 0.0, 0.1, image_freedom=11)
    assert images_only.interval()[0] == pytest.approx(0.3 - 0.1 * stats.t.ppf(0.975, 11))
    assert images_only.p_value == pytest.approx(2 * stats.t.sf(3, 11))
    few = Resampled(np.zeros(3), np.zeros((3, 400)), 1000, effective=12)
    assert few.freedom == 11
    assert Resampled(np.zeros(3), np.zeros((3, 5)), 1000).freedom == 4  # no more is known than is resampled


def test_folds_leave_the_overlap_of_their_training_sets_in_the_error() -> None:
    differences = (0.3, -0.1, 0.5, 0.4, 0.2)
    now = estimate(seeds_only(*differences), overlap=1 / 4)
    assert now.error == pytest.approx(np.std(differences, ddof=1) * math.sqrt(1 / 5 + 1 / 4))  # Nadeau and Bengio
    assert now.image_sd == 0


def test_rounding_leaves_its_variance_in_differences() -> None:
    rng = np.random.default_rng(0)
    exact = rng.normal(40, 3, (2, 200_000))
    for step in (1.0, 0.1):
        rounded = (exact / step).round() * step
        assert rounding(rounded[0]) == step
        error = (rounded[0] - rounded[1]) - (exact[0] - exact[1])
        assert np.var(error) == pytest.approx(rounding_variance(step), rel=0.02)
    assert rounding(exact[0]) == 0
    assert rounding([40.25, math.nan, 39.1]) == 0.01
    assert rounding([math.nan]) == 0


def test_a_spread_that_rounding_hid_is_not_taken_for_none() -> None:
    now = estimate(replace(seeds_only(0.3, 0.3), rounded=0.1))
    assert now.seed_sd == pytest.approx(0.1 / math.sqrt(6))
    assert 0.05 < now.p_value < 0.1
    wide = estimate(replace(seeds_only(0.3, 0.9), rounded=0.1))
    assert wide.seed_sd == pytest.approx(0.6 / math.sqrt(2))


def test_one_seed_says_nothing_of_the_spread() -> None:
    now = estimate(seeds_only(0.4))
    assert now.difference == 0.4
    assert now.interval() == (-math.inf, math.inf)
    assert now.p_value == 1


def test_probability_lies_between_its_two_t() -> None:
    t = np.linspace(-6, 6, 25)
    np.testing.assert_allclose(probability(t, 4, 1.0), stats.t.cdf(t, 4))
    np.testing.assert_allclose(probability(t, 4, 0.0), stats.norm.cdf(t))
    np.testing.assert_allclose(probability(t, 4, 0.0, 9), stats.t.cdf(t, 9))
    share = np.linspace(0, 1, 25)
    for images in (2, 30, math.inf):
        p = probability(t, 4, share, images)
        np.testing.assert_allclose(quantile(p, 4, share, images), t, atol=1e-9)


def test_halving_finds_roots() -> None:
    target = np.array([0.1, 0.7, 2.0])
    found = halve(lambda x: x**3 - target, np.zeros(3), np.full(3, 2.0))
    np.testing.assert_allclose(found, [optimize.brentq(lambda x, t=t: x**3 - t, 0, 2) for t in target])


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_mixture_does_not_err_too_often_where_satterthwaite_does(seeds: int) -> None:
    rng = np.random.default_rng(2)
    draws, level = 100_000, 0.0125
    ours, satterthwaite = [], []
    for ratio in (0.0, 0.1, 0.3, 1.0, 10.0):
        seed_part = rng.chisquare(seeds - 1, draws) / (seeds - 1)
        total = seed_part + ratio
        t = -abs(rng.normal(0, np.sqrt(1 + ratio), draws)) / np.sqrt(total)
        ours.append((2 * probability(t, seeds - 1, seed_part / total) <= level).mean())
        satterthwaite.append((2 * stats.t.cdf(t, total**2 / (seed_part**2 / (seeds - 1))) <= level).mean())
    assert max(ours) < level * 1.12  # three standard errors
    assert max(satterthwaite) > level * 1.12


def test_holm_is_statsmodels_holm() -> None:
    rng = np.random.default_rng(3)
    for p in rng.uniform(0, 0.1, (20, 5)):
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    np.testing.assert_array_equal(holm(rng.uniform(0, 1, (4, 1)))[:, 0] <= 1, True)


def closed_test(first: np.ndarray, second: np.ndarray) -> tuple[list[float], list[float]]:
    """Adjust by going through every intersection: hypotheses that can still be rejected share alpha equally."""
    arms = len(first)
    worst: dict[tuple[int, int], float] = {}
    for state in np.ndindex(*[4] * arms):  # which of an arm's two hypotheses are in the intersection
        active = [(arm, 0 if member & 1 else 1) for arm, member in enumerate(state) if member]
        if not active:
            continue
        p = min(1.0, len(active) * min((first, second)[which][arm] for arm, which in active))
        for arm, member in enumerate(state):
            for which in (0, 1):
                if member >> which & 1:
                    worst[arm, which] = max(worst.get((arm, which), 0.0), p)
    return [worst[arm, 0] for arm in range(arms)], [worst[arm, 1] for arm in range(arms)]


def test_gatekeeping_is_the_closed_test_and_without_second_answers_bonferroni() -> None:
    rng = np.random.default_rng(4)
    for _ in range(40):
        first, second = rng.uniform(0, 0.05, (2, 3)) * rng.choice([0.1, 1], (2, 3))
        found = gatekeep(first, second)
        expected = closed_test(first, second)
        np.testing.assert_allclose(found[0], np.minimum(expected[0], 1))
        np.testing.assert_allclose(found[1], expected[1])
    np.testing.assert_allclose(gatekeep(first, np.ones(3))[0], np.minimum(3 * first, 1))
    np.testing.assert_allclose(gatekeep(first, np.zeros(3))[0], holm(first))  # all second questions answered: Holm


def test_seeds_for_gives_the_table_of_the_method() -> None:
    table = [[seeds_for(effect, sd * math.sqrt(2)) for effect in (0.3, 0.5, 1.0)] for sd in (0.2, 0.3, 0.5)]
    assert table == [[10, 5, 3], [18, 8, 4], [46, 18, 7]]


@pytest.mark.parametrize(("effect", "sd", "seeds"), [(0.5, 0.4, 6), (0.1, 0.3, 20), (0, 0.4, 6), (1.5, 0.5, 3)])
def test_power_is_statsmodels_power(effect: float, sd: float, seeds: int) -> None:
    assert power(effect, sd, seeds) == pytest.approx(TTestPower().power(effect / sd, seeds, 0.05), abs=1e-6)
    assert power(1e9, 0.4, 6) == pytest.approx(1)
