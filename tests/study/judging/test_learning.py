"""Runs that did not learn: which they are, and exact tests of how often, against scipy and by counting out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attngraft.study.judging.learning import (
    FIRST_LOOK,
    apart,
    failures_not_excluded,
    learned,
    median,
    more_often,
    more_often_once,
    rate_interval,
)


def test_a_run_far_below_its_series_did_not_learn_and_others_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    series = 40 + 0.3 * rng.standard_normal((3, 6))
    assert learned(series, 0.5).all()
    series[1, 4] = 2
    assert np.argwhere(~learned(series, 0.5)).tolist() == [[1, 4]]


def test_a_single_run_that_learned_shows_that_the_others_did_not() -> None:
    beacons = np.array([[0.1, 0.1, 39, 0.1, 0.1], [0.1, 0.2, 0.1, 0.1, 0.1], [39, 40, 41, 0.1, 40]])
    expected = [[0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 0, 1]]
    assert learned(beacons, 0.5).astype(int).tolist() == expected


def test_a_run_that_learned_in_a_series_that_did_not_is_told_from_it() -> None:
    """The published beacons study: mhsa learned the rule at four seeds, ema at one, the baseline and msda at none."""
    published = np.array([
        [93.80, 95.56, 93.28, 48.41, 92.48],
        [52.02, 94.49, 49.67, 49.07, 49.50],
        [50.42, 49.79, 49.53, 48.42, 49.02],
        [49.67, 50.55, 49.37, 49.58, 49.32],
    ])  # fmt: skip
    expected = [[1, 1, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert learned(published, 1.0).astype(int).tolist() == expected


def test_half_of_the_runs_may_fail_and_are_found() -> None:
    rng = np.random.default_rng(1)
    failed = rng.random((50, 2, 8)) < 0.5
    values = 40 + 0.1 * rng.standard_normal(failed.shape) - 45 * failed
    mixed = failed.any(-1) & ~failed.all(-1)
    found = ~learned(values, 0.5)
    assert (found == failed)[mixed].all()


def test_a_long_tail_and_a_large_effect_are_no_failures() -> None:
    values = np.array([[40.0, 40.1, 39.9, 40.0, 44.0], [40.0, 40.1, 39.9, 40.2, 40.0]])
    assert learned(values, 0.5).all()  # one run off above, and not by half
    gain = np.array([[48.0, 48.1, 47.9, 48.2], [40.0, 40.1, 39.9, 40.0]])
    assert learned(gain, 0.5).all()


def test_the_gap_is_measured_by_the_sesoi_too() -> None:
    values = np.array([[40.0, 40.01, 40.02, 39.0], [40.0, 40.01, 40.02, 40.01]])
    assert learned(values, 0.5).all()
    assert not learned(values, 0.1)[0, 3]


def test_missing_runs_count_for_nothing() -> None:
    values = np.array([[40.0, 40.1, 2.0, np.nan], [40.0, 40.2, 39.9, 40.1], [np.nan] * 4])
    assert np.argwhere(~learned(values, 0.5)).tolist() == [[0, 2]]
    np.testing.assert_array_equal(median(values), [40.0, 40.05, np.nan])


def test_arms_so_far_off_that_one_may_not_have_learned_at_all() -> None:
    arm = np.array([[1.0, 1.1, 0.9], [41.0, 40.9, 41.2], [43.0, 43.1, 42.9]])
    baseline = np.tile([40.0, 40.1, 39.9], (3, 1))
    assert apart(arm, baseline, 0.5).tolist() == [True, False, True]
    assert not apart(arm, baseline, 1.0)[1:].any()


@pytest.mark.parametrize(
    ("arm", "baseline", "runs"), [(4, 0, 5), (8, 2, 10), (5, 1, 5), (3, 3, 8), (2, 6, 8), (0, 0, 6)]
)
def test_one_look_is_boschloos_test(arm: int, baseline: int, runs: int) -> None:
    table = [[arm, baseline], [runs - arm, runs - baseline]]
    found = more_often_once(np.array([arm]), np.array([baseline]), np.array([runs]))[0]
    assert found >= stats.boschloo_exact(table, alternative="greater").pvalue - 1e-4
    if arm or baseline:
        assert found == pytest.approx(stats.boschloo_exact(table, alternative="greater").pvalue, abs=0.02)


def test_looks_at_every_seed_err_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(2)
    last, studies = 12, 20_000
    seeds = np.arange(3, last + 1)
    for rate in (0.2, 0.5, 0.85):
        arm, baseline = (np.cumsum(rng.random((studies, last)) < rate, -1)[:, seeds - 1] for _ in range(2))
        p = more_often(arm, baseline, seeds, last)
        assert (p[:, seeds < FIRST_LOOK] == 1).all()
        assert (np.diff(p, axis=-1) <= 0).all()
        assert (p[:, -1] <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)
    assert (p[:, -1] <= 0.05).mean() > 0.005  # and it is not idle
    naive = stats.hypergeom.sf(arm - 1, 2 * seeds, arm + baseline, seeds)
    assert more_often(np.array([[12]]), np.array([[0]]), np.array([12]), 12)[0, 0] < 0.001
    assert naive.shape == p.shape


def test_intervals_of_rates_are_those_of_scipy() -> None:
    for successes, runs in ((0, 5), (4, 5), (5, 5), (3, 20)):
        expected = stats.binomtest(successes, runs).proportion_ci(method="exact")
        assert rate_interval(successes, runs) == pytest.approx((expected.low, expected.high))


def test_what_runs_without_a_failure_do_not_exclude() -> None:
    assert failures_not_excluded(8) == pytest.approx(rate_interval(0, 8, 0.9)[1])  # one-sided at 5 %
    assert (1 - failures_not_excluded(15)) ** 15 == pytest.approx(0.05)
