"""The bootstrap against scipy's, on columns that are paired, constant and alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attngraft.retrieve.evaluation import intervals as module
from attngraft.retrieve.evaluation.intervals import intervals


def test_intervals_are_those_of_scipy() -> None:
    random = np.random.default_rng(1)
    values = np.stack([random.beta(2, 5, 90), random.normal(0.02, 0.1, 90)], axis=1)
    for column, ours in zip(values.T, intervals(values, resamples=20_000), strict=True):
        level = 1 - 2 * stats.norm.cdf(-np.sqrt(90 / 89) * stats.t.ppf(0.975, 89))
        theirs = stats.bootstrap(
            (column,), np.mean, n_resamples=20_000, method="percentile", confidence_level=level,
            random_state=np.random.default_rng(2),
        ).confidence_interval  # fmt: skip
        assert ours.mean == pytest.approx(column.mean())
        spread = theirs.high - theirs.low
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.04 * spread)


def test_rows_that_move_together_have_a_narrow_difference() -> None:
    random = np.random.default_rng(0)
    one = random.uniform(size=80)
    other = one + 0.05 + random.normal(0, 0.01, 80)
    first, second, difference = intervals(np.stack([one, other, other - one], axis=1))
    assert difference.high - difference.low < 0.1 * (first.high - first.low)
    assert difference.low > 0
    assert second.mean - first.mean == pytest.approx(difference.mean)


def test_constant_columns_and_one_query() -> None:
    assert intervals(np.full((7, 1), 0.25))[0].low == pytest.approx(0.25)
    for few in (1, 5):  # nothing is known of the spread
        found = intervals(np.full((few, 1), 0.5))[0]
        assert (found.low, found.mean, found.high) == (-0.5, 0.5, 1.5)


@pytest.mark.parametrize(("queries", "least"), [(3, 0.93), (5, 0.93), (6, 0.89), (10, 0.92), (30, 0.93)])
def test_intervals_of_few_queries_hold_the_truth(queries: int, least: float) -> None:
    """Plain percentiles hold it in 0.76, 0.84, 0.86, 0.90 and 0.94 of these cases."""
    values = np.random.default_rng(0).normal(0.3, 0.2, (queries, 4000))
    held = [one.low <= 0.3 <= one.high for one in intervals(values, resamples=1000)]
    assert least <= np.mean(held) <= 0.97


def test_few_queries_have_the_interval_of_student() -> None:
    values = np.array([[0.2], [0.5], [0.4]])
    found, theirs = intervals(values)[0], stats.ttest_1samp(values[:, 0], 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx(theirs)


def test_blocks_of_resamples_change_neither_number_nor_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).uniform(size=(30, 2))
    whole = intervals(values, resamples=1000, seed=4)
    monkeypatch.setattr(module, "DRAWN", 900)
    assert intervals(values, resamples=1000, seed=4) == whole
    assert intervals(values, resamples=1000, seed=5) != whole
