"""Looks after every seed: what they cost, on fresh draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from attngraft.study import Looks
from attngraft.study.judging.sequential import RESERVE, Anytime, bayes_factor, bounds, combine, path


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


def test_a_reserve_is_a_part_of_alpha() -> None:
    p = np.array([0.3, 0.01, 0.02])
    np.testing.assert_allclose(Looks(3, 5, 0.1).p_values(p), np.minimum(Looks(3, 5).p_values(p) / 0.9, 1))
    np.testing.assert_allclose(Looks(5, 5, 0.1).levels(0.05), 0.045)


@pytest.mark.parametrize(("t", "seeds", "effect"), [(2.0, 4, 1.0), (-1.0, 7, 1.0), (3.5, 12, 0.5), (0.0, 2, 1.0)])
def test_the_bayes_factor_is_the_integral_over_noncentral_ts(t: float, seeds: int, effect: float) -> None:
    def weighted(delta: float) -> float:
        return stats.nct.pdf(t, seeds - 1, delta * np.sqrt(seeds)) * 2 * stats.norm.pdf(delta, 0, effect)

    expected = integrate.quad(weighted, 0, 12 * effect, limit=200)[0] / stats.t.pdf(t, seeds - 1)
    assert bayes_factor(np.array(t), np.array(seeds), effect) == pytest.approx(expected, rel=1e-5)


def test_looking_for_ever_errs_no_more_often_than_promised() -> None:
    draws = np.random.default_rng(5).standard_normal((5000, 60))
    p = Anytime(3).p_values(one_sided(draws, 3), np.arange(2, 60))
    assert (np.diff(p, axis=1) <= 0).all()
    assert (p[:, -1] <= 0.05).mean() <= 0.05
    gain = Anytime(3).p_values(one_sided(draws[:, :20] + 1, 3), np.arange(2, 20))
    assert (gain[:, -1] <= 0.05).mean() > 0.9


def test_the_bounds_of_stages_spend_all_but_the_rest_of_the_reserve() -> None:
    for planned in ((15, 15), (5, 10, 20)):
        z = bounds(0.05, planned)
        shares = np.cumsum(planned)
        correlation = np.sqrt(np.minimum.outer(shares, shares) / np.maximum.outer(shares, shares))
        spent = 1 - stats.multivariate_normal(np.zeros(len(planned)), correlation).cdf(z)
        assert spent == pytest.approx(0.05 * (1 - RESERVE / 2 ** (len(planned) - 1)), abs=2e-5)


def test_stages_are_combined_by_inverse_normals() -> None:
    p, other = 0.08, 0.02
    z = (np.sqrt(0.5) * stats.norm.isf(p) + np.sqrt(0.5) * stats.norm.isf(other)).item()
    alpha = combine([np.array(p), np.array(other)], (15, 15))
    assert bounds(float(alpha), (15, 15))[1] == pytest.approx(z, abs=0.01)
    assert combine([np.array(0.001), np.array(0.9)], (15, 15)) == pytest.approx(0.001 / 0.9)  # decided before


def test_extensions_err_no_more_often_than_promised_and_shared_images_are_allowed_for() -> None:
    rng = np.random.default_rng(6)
    p = rng.random((3, 100_000))
    for alpha in (0.05, 0.01):
        found = (combine(list(p), (5, 5, 5)) <= alpha).mean()
        assert found == pytest.approx(alpha * (1 - RESERVE / 4), abs=4 * np.sqrt(alpha / 100_000))
    shared = rng.standard_normal(100_000)
    z = np.sqrt(0.5) * (shared + rng.standard_normal((2, 100_000)))
    naive, allowed = ((combine(list(stats.norm.sf(z)), (5, 5), rho) <= 0.05).mean() for rho in (0.0, 0.5))
    assert naive > 0.05
    assert allowed <= 0.05
