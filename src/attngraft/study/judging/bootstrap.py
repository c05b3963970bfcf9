"""The paired bootstrap over images and groups of them; for the AP of a resample see `attngraft.coco.average_precision`.

AP is a mean over classes, and a class is known only as well as the few images it is on. With ``n_c`` images of class c,
the variance of the mean is taken as proportional to ``sum 1 / n_c``; the bootstrap's own is too small by
``1 - 1 / n_c`` in each term, and Satterthwaite's degrees of freedom of the sum are what a t test of the image part has.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (weights as resamples); Satterthwaite, Biometrics
Bulletin 1946; Field and Welsh, JRSS B 2007 (whole clusters are drawn).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft.coco.average_precision import (
    METRICS,
    Floats,
    Weights,
    average_precision,
    mean_over_classes,
)
from attngraft.coco.matches import SIZES, Matches, require_comparable
from attngraft.coco.metrics import metric_sizes, metric_values, needed_classes, parse_metric

Groups = NDArray[np.integer[Any]]
Kept = NDArray[np.bool_]


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
        effective: Images, or groups of them, that the variance over images is known from; None takes all images. Of 1
            nothing is known of it.
        correction: Factor by which the bootstrap's variance is too small.
        rounded: The step that the AP points were rounded to before they came here; 0 where they were not.
    """

    observed: Floats
    resampled: Floats
    images: int
    empty: bool = False
    effective: float | None = None
    correction: float = 1.0
    rounded: float = 0.0

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the variance over images, which is known from no more than the resamples."""
        units = self.images if self.effective is None else self.effective
        return max(min(units, self.resampled.shape[-1]) - 1.0, 1.0)

    def __sub__(self, other: Resampled) -> Resampled:
        """Pair the runs by position: the differences of the first S, S being the shorter."""
        seeds = slice(min(len(self.observed), len(other.observed)))
        mine, theirs = self.observed[seeds], other.observed[seeds]
        return replace(
            self,
            observed=mine - theirs,
            resampled=self.resampled[seeds] - other.resampled[seeds],
            empty=not (mine.any() or theirs.any()),
        )

    def __getitem__(self, seeds: slice) -> Resampled:
        """Return some of the runs."""
        return replace(self, observed=self.observed[seeds], resampled=self.resampled[seeds])


@dataclass(frozen=True, eq=False)
class Draw:
    """How images are drawn; runs that are to be paired must share it.

    Attributes:
        resamples: How many times.
        seed: Of the draw.
        groups: Group of each image (patient, video, scene), ``(I,)``: whole groups are drawn. None draws images.
        kept: Images that count, ``(I,)``; None takes all.
    """

    resamples: int = 1000
    seed: int = 0
    groups: Groups | None = None
    kept: Kept | None = None

    def weights(self, images: int) -> Weights:
        """Return how often each image is there in each resample, ``(B, I)``."""
        units = self.units(images)
        kept = units[self._kept(images)]
        _, numbers = np.unique(kept, return_inverse=True)
        drawn = image_weights(int(numbers.max()) + 1, self.resamples, np.random.default_rng(self.seed))
        weights = np.zeros((self.resamples, images), dtype=drawn.dtype)
        weights[:, self._kept(images)] = drawn[:, numbers]
        return weights

    def observed(self, images: int) -> Weights | None:
        """Return the weights of what was observed; None takes every image once."""
        return None if self.kept is None else self.kept[None].astype(np.uint8)

    def units(self, images: int) -> Groups:
        """Return the number of the unit that each image belongs to."""
        return np.arange(images) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]

    def per_class(self, run: Matches, size: str = "all", classes: Sequence[str] = ()) -> Groups:
        """Count the units that each class, or each of some, has objects in, leaving out classes without any."""
        images = len(run.images)
        there = (run.objects[SIZES.index(size)] > 0) & self._kept(images)[run.object_image]
        if classes:
            there &= np.isin(run.classes, list(classes))[run.object_class]
        pairs = np.unique(np.stack([run.object_class[there], self.units(images)[run.object_image[there]]]), axis=1)
        counts = np.bincount(pairs[0].astype(np.intp), minlength=1)
        return counts[counts > 0]

    def effective(self, run: Matches, size: str = "all", classes: Sequence[str] = ()) -> tuple[float, float]:
        """Return the effective number of units, and the factor by which the bootstrap's variance is too small."""
        units = len(np.unique(self.units(len(run.images))[self._kept(len(run.images))]))
        return effective(self.per_class(run, size, classes), units)

    def _kept(self, images: int) -> Kept:
        return np.ones(images, dtype=bool) if self.kept is None else self.kept


def effective(per_class: Groups, units: int) -> tuple[float, float]:
    """Return the effective units behind a mean over classes, and the factor that its bootstrap variance lacks.

    Where no class is in two units there is one effective unit: no variance over units is known.

    Args:
        per_class: Units that each class is in.
        units: Units there are.

    Example:
        >>> [round(value, 2) for value in effective(np.array([100, 100, 4]), 200)]
        [4.5, 1.31]
    """
    if not len(per_class):
        return float(units), 1.0
    if per_class.max() == 1:
        return 1.0, 1.0
    parts, free = 1 / per_class, np.maximum(per_class - 1.0, 1.0)
    freedom = parts.sum() ** 2 / (parts**2 / free).sum()
    return float(min(freedom + 1, units)), float((1 / free).sum() / parts.sum())


def resample(
    runs: Sequence[Matches],
    metric: str = "AP",
    *,
    resamples: int = 1000,
    seed: int = 0,
    workers: int = 1,
    groups: Groups | None = None,
    kept: Kept | None = None,
) -> Resampled:
    """Bootstrap one metric of several runs over the images; equal seeds draw equal images.

    Args:
        runs: Runs on one ground truth.
        metric: What `attngraft.coco.metrics.parse_metric` reads.
        resamples: How many times the images are drawn.
        seed: Of the draw; runs that are to be paired must share it.
        workers: Threads.
        groups: As in `Draw`.
        kept: As in `Draw`.

    Raises:
        DataError: If the runs rest on different ground truths.
    """
    parse_metric(metric)
    draw, sizes = Draw(resamples, seed, groups, kept), metric_sizes(metric)
    size = next(iter(sizes)) if len(sizes) == 1 else "all"
    found = _resample(
        runs,
        draw,
        measure=lambda run, weights: {metric: metric_values(run, metric, weights)},
        known=lambda run: {metric: draw.effective(run, size, needed_classes(metric))},
        workers=workers,
    )
    return found[metric]


def resample_breakdown(
    runs: Sequence[Matches],
    *,
    resamples: int = 1000,
    seed: int = 0,
    workers: int = 1,
    groups: Groups | None = None,
    kept: Kept | None = None,
) -> dict[str, Resampled]:
    """Bootstrap every one of `METRICS`, and the AP of every class under ``AP/name``, as `resample` does for one.

    A class may be missing from a resample, and is NaN there.
    """
    draw = Draw(resamples, seed, groups, kept)
    return _resample(runs, draw, measure=_breakdown, known=lambda run: _known(draw, run), workers=workers)


def _resample(
    runs: Sequence[Matches],
    draw: Draw,
    *,
    measure: Callable[[Matches, Weights | None], dict[str, Floats]],
    known: Callable[[Matches], dict[str, tuple[float, float]]],
    workers: int,
) -> dict[str, Resampled]:
    """Bootstrap what is measured of runs.

    Args:
        runs: Runs on one ground truth.
        draw: How images are drawn.
        measure: Gives each metric of a run under each row of image weights.
        known: Gives the effective units and the correction of each metric, from any of the runs.
        workers: Threads.
    """
    require_comparable(runs)
    images = len(runs[0].images)
    weights, once = draw.weights(images), draw.observed(images)
    with ThreadPoolExecutor(workers) as pool:
        resampled = list(pool.map(lambda run: measure(run, weights), runs))
    observed = [measure(run, once) for run in runs]
    return {
        name: Resampled(
            np.array([values[name][0] for values in observed]),
            np.stack([values[name] for values in resampled]),
            images,
            effective=units,
            correction=correction,
        )
        for name, (units, correction) in known(runs[0]).items()
    }


def _known(draw: Draw, run: Matches) -> dict[str, tuple[float, float]]:
    """Return the effective units and the correction of every row of a breakdown."""
    sizes = {size: draw.effective(run, size) for size in SIZES}
    found = {name: sizes[size] for name, (size, _) in METRICS.items()}
    units, images = draw.units(len(run.images)), len(run.images)
    kept = np.ones(images, dtype=bool) if draw.kept is None else draw.kept
    for index, name in enumerate(run.classes.tolist()):
        own = run.object_image[(run.object_class == index) & kept[run.object_image]]
        count = len(np.unique(units[own]))
        found[f"AP/{name}"] = effective(np.array([count]), count) if count else (1.0, 1.0)
    return found


def _breakdown(run: Matches, weights: Weights | None) -> dict[str, Floats]:
    ap = {size: average_precision(run, weights, size=size) for size in SIZES}
    values = {name: mean_over_classes(ap[size][:, part].mean(1)) for name, (size, part) in METRICS.items()}
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
