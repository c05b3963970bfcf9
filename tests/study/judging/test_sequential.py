"""Looks after every seed: what they cost, on fresh draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attngraft.study import Looks
from attngraft.study.judging.sequential import path


def one_sided(differences: np.ndarray, first: int) -> np.ndarray:
    mean, error, freedom = path(differences, first)
    return stats.t.sf(mean / error, freedom)


def test_the_path_is_that_of_plain_t_tests() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, (4, 9))
    mean, error, freedom = path(differences, 3)
    for k, seeds in enumerate(range(3, 10)):
        expected = stats.ttest_1samp(differences[:, :seeds], 0, axis=1)
        np.testing.assert_allclose(mean[:, k] / error[:, k], expected.statistic)
        assert freedom[k] == seeds - 1


@pytest.mark.parametrize("looks", [Looks(3, 6), Looks(3, 12), Looks(5, 12)])
def test_looking_at_every_seed_errs_no_more_often_than_promised(looks: Looks) -> None:
    draws = np.random.default_rng(1).standard_normal((20000, looks.last))
    p = looks.p_values(one_sided(draws, looks.first))
    assert (np.diff(p, axis=1) <= 0).all()
    for alpha in (0.2, 0.05, 0.01):
        found = (p[:, -1] <= alpha).mean()
        assert found == pytest.approx(alpha, abs=4 * np.sqrt(alpha / 20000))
    naive = (one_sided(draws, looks.first) <= 0.05).any(1).mean()
    assert naive > 0.08  # what it would be without


def test_levels_are_the_p_values_turned_round() -> None:
    looks = Looks(3, 10)
    for alpha in (0.05, 0.00625):
        levels = looks.levels(alpha)
        for k, level in enumerate(levels):
            p = np.ones(8)
            p[k] = level
            assert alpha * 0.97 < looks.p_values(p)[-1] <= alpha
            p[k] = level * 1.05
            assert looks.p_values(p)[-1] > alpha


def test_far_in_the_tail_bonferroni_takes_over() -> None:
    looks = Looks(3, 10)
    p = looks.p_values(np.array([1e-12]))
    assert p[0] == pytest.approx(1e-12 / 0.3 * np.arange(3, 11).sum() / 10)
    assert looks.levels(1e-12)[0] == pytest.approx(1e-12 * 3 / np.arange(3, 11).sum())


def test_one_look_costs_nothing() -> None:
    p = np.array([[0.03], [0.8]])
    np.testing.assert_array_equal(Looks(7, 7).p_values(p), p)
    assert Looks(7, 7).levels(0.05).tolist() == [0.05]


@pytest.mark.parametrize(("first", "last"), [(1, 5), (6, 5), (0, 0)])
def test_looks_that_cannot_be_are_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match=f"2 <= first <= last, got first={first} and last={last}"):
        Looks(first, last)
