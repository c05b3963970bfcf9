"""Estimates, intervals and tests against textbook forms, and against simulated truth where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from attngraft.study import Estimate, Looks, Resampled, estimate, power, seeds_for
from attngraft.study.judging.bootstrap import image_weights
from attngraft.study.judging.statistics import Course, decide, holm, interval_after_looks, probability, quantile

ONE_LOOK = Looks(2, 2)


def seeds_only(*differences: float) -> Resampled:
    """Differences that do not depend on the images."""
    observed = np.array(differences)
    return Resampled(observed, np.tile(observed[:, None], (1, 10)), 100)


def course(*estimates: Estimate) -> Course:
    """One look at each of some arms."""
    columns = zip(*((e.difference, e.error, e.seeds - 1, e.share) for e in estimates), strict=True)
    return Course(*(np.array(column, dtype=float)[:, None] for column in columns))


def test_without_image_noise_it_is_the_paired_t_interval() -> None:
    differences = (0.3, -0.1, 0.5, 0.4, 0.2)
    now = estimate(seeds_only(*differences))
    expected = stats.ttest_1samp(differences, 0)
    assert now.interval(0.9) == pytest.approx(expected.confidence_interval(0.9))
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
        found.append(estimate(Resampled(value.mean(1), value @ weights.T, images)))
    assert np.mean([now.image_sd**2 for now in found]) == pytest.approx(sd["image"] ** 2, rel=0.2)
    assert np.mean([now.seed_sd**2 for now in found]) == pytest.approx(sd["seed"] ** 2 + sd["both"] ** 2, rel=0.1)
    spread = np.var([now.difference for now in found])
    assert np.mean([now.error**2 for now in found]) == pytest.approx(spread, rel=0.2)


def test_one_seed_says_nothing_of_the_spread() -> None:
    now = estimate(seeds_only(0.4))
    assert now.difference == 0.4
    assert now.interval() == (-math.inf, math.inf)


def test_probability_lies_between_the_normal_and_the_t() -> None:
    t = np.linspace(-6, 6, 25)
    np.testing.assert_allclose(probability(t, 4, 1.0), stats.t.cdf(t, 4))
    np.testing.assert_allclose(probability(t, 4, 0.0), stats.norm.cdf(t))
    share = np.linspace(0, 1, 25)
    p = probability(t, 4, share)
    np.testing.assert_allclose(quantile(p, 4, share), t, atol=1e-9)


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


def test_holm_is_holms() -> None:
    rng = np.random.default_rng(3)
    for p in rng.uniform(0, 0.1, (20, 5)):
        expected = np.empty(5)
        running = 0.0
        for place, arm in enumerate(np.argsort(p)):
            running = max(running, min(1.0, (5 - place) * p[arm]))
            expected[arm] = running
        np.testing.assert_allclose(holm(p), expected)
    np.testing.assert_array_equal(holm(rng.uniform(0, 1, (4, 1)))[:, 0] <= 1, True)


def test_one_look_at_one_arm_is_a_t_test_and_two_one_sided_ones() -> None:
    differences = (0.3, -0.1, 0.5, 0.4, 0.2)
    decision = decide(course(estimate(seeds_only(*differences))), ONE_LOOK, sesoi=0.6, alpha=0.05)
    assert decision.p_difference[0] == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    low = stats.ttest_1samp(differences, -0.6, alternative="greater").pvalue
    high = stats.ttest_1samp(differences, 0.6, alternative="less").pvalue
    assert decision.p_equivalence[0] == pytest.approx(max(low, high))


def test_the_four_outcomes() -> None:
    arms = [Estimate(10, difference, 0.3, 0.0) for difference in (1.0, -1.0, 0.0, 0.45)]
    decision = decide(course(*arms), ONE_LOOK, sesoi=0.5, alpha=0.01)
    assert decision.outcome.tolist() == [1, 2, 3, 1]
    decision = decide(course(*arms), ONE_LOOK, sesoi=0.5, alpha=1e-4)
    assert decision.outcome.tolist() == [1, 2, 0, 0]


def test_a_difference_smaller_than_worthwhile_is_no_difference() -> None:
    decision = decide(course(Estimate(10, 0.2, 0.05, 0.0)), ONE_LOOK, sesoi=0.5, alpha=0.05)
    assert decision.p_difference[0] < 0.001
    assert decision.outcome[0] == 3


def test_runs_that_never_differ_are_no_different() -> None:
    decision = decide(
        course(estimate(seeds_only(0, 0, 0)), estimate(seeds_only(2, 2, 2))), ONE_LOOK, sesoi=0.5, alpha=0.05
    )
    assert decision.outcome.tolist() == [3, 1]
    assert decision.p_difference.tolist() == [1, 0]


def test_an_arm_with_a_verdict_keeps_it_and_one_without_seeds_waits() -> None:
    mean = np.array([[[2.0, 2.0, -9.0], [0.1, np.nan, np.nan], [np.nan, np.nan, np.nan]]])
    error = np.where(np.isnan(mean), np.nan, 0.02)
    one = np.ones_like(mean)
    decision = decide(Course(mean, error, one * [2, 3, 4], one), Looks(3, 5), sesoi=0.15, alpha=0.05)
    assert decision.outcome[0].tolist() == [1, 0, 0]
    assert decision.look[0].tolist() == [0, 2, 2]
    assert decision.p_equivalence[0, 2] == 1


def test_the_interval_after_one_look_is_the_plain_one() -> None:
    now = Estimate(5, 0.4, 0.3, 0.1)
    assert interval_after_looks(now, Looks(5, 5), sesoi=0.3) == now.interval()
    assert interval_after_looks(now, Looks(5, 20), sesoi=0.3) == now.interval()


def test_the_interval_after_looks_pulls_a_lucky_stop_in_and_mirrors() -> None:
    now = Estimate(8, 0.6, 0.3, 0.0)
    low, high = interval_after_looks(now, Looks(3, 20), sesoi=0.3)
    assert low < now.interval()[0]  # to have stopped here takes luck upward
    assert 0 < low < 0.6 < high
    mirrored = interval_after_looks(Estimate(8, -0.6, 0.3, 0.0), Looks(3, 20), sesoi=0.3)
    assert mirrored == pytest.approx((-high, -low), abs=0.03)


def test_seeds_for_gives_the_table_of_the_method() -> None:
    table = [[seeds_for(effect, sd * math.sqrt(2)) for effect in (0.3, 0.5, 1.0)] for sd in (0.2, 0.3, 0.5)]
    assert table == [[10, 5, 3], [18, 8, 4], [46, 18, 7]]


def test_power_against_simulated_t_tests() -> None:
    draws = np.random.default_rng(4).normal(0.5, 0.4, (20000, 6))
    found = (stats.ttest_1samp(draws, 0, axis=1).pvalue <= 0.05).mean()
    assert power(0.5, 0.4, 6) == pytest.approx(found, abs=0.01)
    assert power(0, 0.4, 6) == pytest.approx(0.05)
    assert power(1e9, 0.4, 6) == pytest.approx(1)
