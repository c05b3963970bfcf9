"""Runs that did not learn: found over all series of a study, and compared by how often they occur.

A run that fails to learn ends far from the others of its series, and a few of them make a mean and a standard deviation
say nothing. They are an outcome, not noise: an arm whose runs fail more often is worse. So where there are any, a study
compares *how often* arms learn, by an exact test that allows for its looks, and the runs that learned among themselves.

The test orders outcomes by Fisher's p and takes, as Boschloo's test does, the largest chance that any common rate of
success gives to an outcome as extreme; with looks, to reaching one at any of them, which is counted out step by step.

Sources: Rousseeuw and Croux, Alternatives to the Median Absolute Deviation, JASA 1993 (``Q_n``); Clopper and Pearson,
Biometrika 1934; Boschloo, Statistica Neerlandica 1970.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

GAP = 5
"""Robust standard deviations, and SESOIs, that a run has to lie from its series' median."""

QN = 2.2191
"""Makes the lower quartile of distances between normal values their standard deviation."""

FIRST_LOOK = 5
"""Seeds before the first look of a study in which runs did not learn."""

RATES = np.linspace(0.02, 0.5, 25)
"""Common rates of success that the exact test goes through; one above a half mirrors one below."""


def has_floor(*values: Floats) -> bool:
    """Tell whether 0 may be what a run scores that learned nothing: not where some score less, as a loss with a minus.

    Args:
        *values: Values of a study's runs; NaN where there is no run.
    """
    return not any((part < 0).any() for part in values)


def learned(series: Floats, sesoi: float, *, floor: bool = True) -> Bools:
    """Say which runs learned.

    A run is off if it lies more than `GAP` robust standard deviations, and more than `GAP` SESOIs, from the median of
    its series. Runs that are off below did not learn. If some are off above only, the others did not, provided that
    their median is under half of those: else they are a long tail. A series without any may have a median nearer to
    the level of runs that did not learn than to that of those that did: its runs that are nearer to it too did not.

    Args:
        series: Values of M series of n runs, ``(..., M, n)``; NaN where there is no run.
        sesoi: Smallest effect worth having.
        floor: As `has_floor` says. Without it no value is half of another, so that runs that are off above only are
            always a long tail.

    Returns:
        ``(..., M, n)``; true where there is no run.
    """
    shape = series.shape
    flat = series.reshape(-1, *shape[-2:])
    found = np.ones(flat.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        spans = np.fmax.reduce(flat, -1) - np.fmin.reduce(flat, -1)
    wide = (spans > GAP * sesoi).any(-1)
    if wide.any():
        found[wide] = _learned(flat[wide], sesoi, floor)
    return found.reshape(shape)


def apart(arm: Floats, baseline: Floats, sesoi: float) -> Bools:
    """Say which arms are so far from their baseline that one of the two may be a series of which no run learned.

    Args:
        arm: Values of A arms, ``(..., A, n)``.
        baseline: What each is compared with, of the same shape.
        sesoi: Smallest effect worth having.
    """
    between = abs(median(arm) - median(baseline))
    with np.errstate(invalid="ignore"):
        found = np.asarray(between > GAP * sesoi)
    if found.any():
        within = _spread(np.stack([arm[found], baseline[found]], -2))
        found[found] = between[found] > GAP * within
    return found


def _learned(series: Floats, sesoi: float, floor: bool) -> Bools:
    """Do what `learned` does, for studies ``(N, M, n)``."""
    level = median(series)[..., None]
    own = _spread(series.reshape(-1, 1, series.shape[-1])).reshape(series.shape[:-1])
    spread = np.maximum(_spread(series)[:, None], own)
    bound = GAP * np.maximum(spread, sesoi)[..., None]
    with np.errstate(invalid="ignore"):
        low, high = series - level < -bound, (series - level > bound) & (series > 2 * level) & floor
    split = (low | high).any(-1, keepdims=True)
    failed = np.where(low.any(-1, keepdims=True), low, split & ~high) & ~np.isnan(series)
    studies = len(series)
    off = median(np.where(failed, series, np.nan).reshape(studies, -1))[:, None, None]
    on = median(np.where(split & ~failed, series, np.nan).reshape(studies, -1))[:, None, None]
    with np.errstate(invalid="ignore"):
        low_level = ~split & (abs(level - off) < abs(level - on))
        near_off = abs(series - off) < abs(series - on)  # the one run in such a series that learned is not
    return np.asarray(~(failed | (low_level & near_off)) | np.isnan(series))


def _spread(series: Floats) -> Floats:
    """Return the pooled ``Q_n`` of the series of each study, ``(N,)``: it stands up to nearly half the runs failing."""
    one, other = np.triu_indices(series.shape[-1], 1)
    distances = abs(series[..., one] - series[..., other]).reshape(len(series), -1)
    distances.sort(axis=-1)
    count = (~np.isnan(distances)).sum(-1)
    at = np.maximum(np.ceil(count / 4).astype(int) - 1, 0)
    quartile = np.take_along_axis(distances, at[:, None], -1)[:, 0] if distances.shape[-1] else np.zeros(len(series))
    return np.asarray(QN * np.nan_to_num(quartile))


def median(values: Floats) -> Floats:
    """Return the median along the last axis of what is not NaN; NaN where nothing is."""
    ordered = np.sort(values, -1)
    count = (~np.isnan(ordered)).sum(-1, keepdims=True)
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, values.shape[-1] - 1)
    return np.asarray((np.take_along_axis(ordered, low, -1) + np.take_along_axis(ordered, high, -1))[..., 0] / 2)


def rate_interval(successes: int, runs: int, level: float = 0.95) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a rate.

    Example:
        >>> [round(end, 3) for end in rate_interval(4, 5)]
        [0.284, 0.995]
    """
    tail = (1 - level) / 2
    low = float(special.betaincinv(successes, runs - successes + 1, tail)) if successes else 0.0
    high = float(special.betaincinv(successes + 1, runs - successes, 1 - tail)) if successes < runs else 1.0
    return low, high


def failures_not_excluded(runs: int, alpha: float = 0.05) -> float:
    """Return the rate of failures at which as many runs without one have a chance of ``alpha``.

    Example:
        >>> round(failures_not_excluded(8), 2)
        0.31
    """
    return float(1 - alpha ** (1 / runs))


def more_often(arm: NDArray[Any], baseline: NDArray[Any], seeds: NDArray[Any], last: int) -> Floats:
    """Return the sequential p, look by look, against an arm learning no more often than the baseline.

    Args:
        arm: Runs of the arm that learned, of the first ``seeds``, ``(..., K)``.
        baseline: The same of the baseline.
        seeds: Seeds at each of the K looks, ``(K,)`` or ``(..., K)``; below `FIRST_LOOK` and above ``last`` is no look.
        last: Seeds at the last planned look; the first is at `FIRST_LOOK`, or is the last where that is smaller.
    """
    first = min(FIRST_LOOK, last)
    return _sequential(arm, baseline, seeds, first, last)


def more_often_once(arm: NDArray[Any], baseline: NDArray[Any], seeds: NDArray[Any]) -> Floats:
    """Return Boschloo's one-sided p of studies that look once, each at its number of ``seeds``."""
    found = np.ones(np.shape(arm))
    for count in np.unique(seeds[seeds > 0]).tolist():
        part = seeds == count
        found[part] = _sequential(arm[part][:, None], baseline[part][:, None], np.array([count]), count, count)[:, 0]
    return found


def _sequential(arm: NDArray[Any], baseline: NDArray[Any], seeds: NDArray[Any], first: int, last: int) -> Floats:
    ratios = _ratios(first, last)
    seeds = np.broadcast_to(seeds, np.shape(arm))
    looked = (seeds >= first) & (seeds <= last)
    at = ratios[np.where(looked, seeds - first, 0), arm * looked, baseline * looked]
    smallest = np.minimum.accumulate(np.where(looked, at, np.inf), axis=-1)
    limits, chance = _chances(first, last)
    return chance[np.minimum(np.searchsorted(limits, smallest * (1 - 1e-9)), len(limits) - 1)]


@lru_cache(maxsize=64)
def _ratios(first: int, last: int) -> Floats:
    """Tabulate Fisher's one-sided p over its look's share of the seeds, ``(K, last + 1, last + 1)``, rounded up."""
    counts = np.arange(last + 1)
    table = np.full((last - first + 1, last + 1, last + 1), np.inf)
    for look, seeds in enumerate(range(first, last + 1)):
        arm, baseline = counts[: seeds + 1, None], counts[None, : seeds + 1]
        p = stats.hypergeom.sf(arm - 1, 2 * seeds, arm + baseline, seeds)
        table[look, : seeds + 1, : seeds + 1] = _three_digits(p * last / seeds)
    return table


def _three_digits(values: Floats) -> Floats:
    """Round up to three digits, so that there are few different values."""
    scale = 10.0 ** (2 - np.floor(np.log10(np.maximum(values, 1e-300))))
    return np.asarray(np.ceil(values * scale - 1e-6) / scale)


@lru_cache(maxsize=64)
def _chances(first: int, last: int) -> tuple[Floats, Floats]:
    """Return possible ratios, rising, and the chance that one as small occurs at any look where the rates are equal."""
    ratios = _ratios(first, last)
    limits = np.unique(ratios[np.isfinite(ratios)])
    chance = np.concatenate(
        [_crossing(ratios, part, first, last) for part in np.array_split(limits, len(limits) // 64 + 1)]
    )
    return np.append(limits, np.inf), np.append(np.minimum(chance, 1), 1.0)


def _crossing(ratios: Floats, limits: Floats, first: int, last: int) -> Floats:
    """Count out the largest chance, over `RATES`, of a ratio up to each limit at any look."""
    rate = RATES[:, None, None]
    state = np.zeros((len(limits), len(RATES), last + 1, last + 1))
    state[..., 0, 0] = 1
    crossed = np.zeros((len(limits), len(RATES)))
    for seeds in range(1, last + 1):
        for axis in (-1, -2):
            moved = np.moveaxis(state, axis, -1)
            step = moved * (1 - rate)
            step[..., 1:] += moved[..., :-1] * rate
            state = np.moveaxis(step, -1, axis)
        if seeds >= first:
            beyond = ratios[seeds - first] <= limits[:, None, None]
            crossed += np.where(beyond[:, None], state, 0).sum((-1, -2))
            state = np.where(beyond[:, None], 0, state)
    return np.asarray(crossed.max(1))
