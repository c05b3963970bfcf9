"""The two-level paired bootstrap over seeds and images; the AP of a resample is `attngraft.coco.average_precision`'s.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (weights as resamples).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from attngraft.coco.average_precision import (
    METRICS,
    Floats,
    Weights,
    average_precision,
    mean_over_classes,
)
from attngraft.coco.matches import SIZES, Matches, require_comparable
from attngraft.coco.metrics import metric_values, parse_metric


def image_weights(images: int, resamples: int, rng: np.random.Generator) -> Weights:
    """Draw ``images`` images with replacement, ``resamples`` times, as counts ``(resamples, images)``."""
    drawn = rng.integers(0, images, (resamples, images))
    drawn += images * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=images * resamples)
    return counts.reshape(resamples, images).astype(np.min_scalar_type(counts.max()))


@dataclass(frozen=True, eq=False)
class Resampled:
    """One metric of S runs: as observed, and under each of B image resamples.

    Attributes:
        observed: AP points, ``(S,)``.
        resampled: AP points; column b of every run rests on the same images, ``(S, B)``.
        images: How many images there are.
        empty: Whether these are differences of runs that are all zero: nothing was found that could be compared.
    """

    observed: Floats
    resampled: Floats
    images: int
    empty: bool = False

    def __sub__(self, other: Resampled) -> Resampled:
        """Pair the runs by position: the differences of the first S, S being the shorter."""
        seeds = slice(min(len(self.observed), len(other.observed)))
        mine, theirs = self.observed[seeds], other.observed[seeds]
        return Resampled(
            mine - theirs,
            self.resampled[seeds] - other.resampled[seeds],
            self.images,
            empty=not (mine.any() or theirs.any()),
        )

    def __getitem__(self, seeds: slice) -> Resampled:
        """Return some of the runs."""
        return replace(self, observed=self.observed[seeds], resampled=self.resampled[seeds])


def resample(
    runs: Sequence[Matches], metric: str = "AP", *, resamples: int = 1000, seed: int = 0, workers: int = 1
) -> Resampled:
    """Bootstrap one metric of several runs over the images; equal seeds draw equal images.

    Args:
        runs: Runs on one ground truth.
        metric: What `attngraft.coco.metrics.parse_metric` reads.
        resamples: How many times the images are drawn.
        seed: Of the draw; runs that are to be paired must share it.
        workers: Threads.

    Raises:
        DataError: If the runs rest on different ground truths.
    """
    parse_metric(metric)
    require_comparable(runs)
    weights = image_weights(len(runs[0].images), resamples, np.random.default_rng(seed))
    with ThreadPoolExecutor(workers) as pool:
        resampled = list(pool.map(lambda run: metric_values(run, metric, weights), runs))
    observed = [float(metric_values(run, metric)[0]) for run in runs]
    return Resampled(np.array(observed), np.stack(resampled), len(runs[0].images))


def resample_breakdown(
    runs: Sequence[Matches], *, resamples: int = 1000, seed: int = 0, workers: int = 1
) -> dict[str, Resampled]:
    """Bootstrap every one of `METRICS`, and the AP of every class under ``AP/name``, as `resample` does for one.

    A class may be missing from a resample, and is NaN there.
    """
    require_comparable(runs)
    weights = image_weights(len(runs[0].images), resamples, np.random.default_rng(seed))
    with ThreadPoolExecutor(workers) as pool:
        resampled = list(pool.map(lambda run: _breakdown(run, weights), runs))
    observed = [_breakdown(run, None) for run in runs]
    return {
        name: Resampled(
            np.array([values[name][0] for values in observed]),
            np.stack([values[name] for values in resampled]),
            len(runs[0].images),
        )
        for name in observed[0]
    }


def _breakdown(run: Matches, weights: Weights | None) -> dict[str, Floats]:
    ap = {size: average_precision(run, weights, size=size) for size in SIZES}
    values = {name: mean_over_classes(ap[size][:, part]) for name, (size, part) in METRICS.items()}
    return values | {f"AP/{name}": 100 * row.mean(0) for name, row in zip(run.classes.tolist(), ap["all"], strict=True)}


def two_level(differences: Resampled, *, seed: int = 0) -> Floats:
    """Draw the mean paired difference by resampling seeds, then images, ``(B,)``.

    Its spread is too small by ``(S - 1) / S`` at the level of the seeds, so quantiles of it are no interval at 3 to 10
    seeds; `attngraft.study.judging.statistics.Estimate.interval` is. Kept for plots and for the simulation that shows
    this.
    """
    seeds, draws = differences.resampled.shape
    chosen = np.random.default_rng(seed).integers(0, seeds, (draws, seeds))
    return np.asarray(differences.resampled[chosen, np.arange(draws)[:, None]].mean(1))
