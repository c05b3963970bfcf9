"""The bootstrap against scipy's, on columns that are paired, constant and alone."""

from __future__ import annotations

import numpy as np
import pytest

from attngraft.retrieve.evaluation import intervals as module
from attngraft.retrieve.evaluation.intervals import intervals


def test_intervals_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(1)
    values = np.stack([random.beta(2, 5, 90), random.normal(0.02, 0.1, 90)], axis=1)
    for column, ours in zip(values.T, intervals(values, resamples=20_000), strict=True):
        theirs = stats.bootstrap(
            (column,), np.mean, n_resamples=20_000, method="percentile", random_state=np.random.default_rng(2)
        ).confidence_interval
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
    one = intervals(np.array([[0.5]]))[0]
    assert one.low == one.mean == one.high == 0.5


def test_blocks_of_resamples_change_neither_number_nor_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).uniform(size=(30, 2))
    whole = intervals(values, resamples=1000, seed=4)
    monkeypatch.setattr(module, "DRAWN", 900)
    assert intervals(values, resamples=1000, seed=4) == whole
    assert intervals(values, resamples=1000, seed=5) != whole
