"""Worlds in which the rules of a study are tried: how runs come about, in AP points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attngraft.study.judging.course import Pairs

Floats = NDArray[np.float64]
Noise = Callable[[np.random.Generator, tuple[int, ...]], Floats]

LEVEL = 40.0
"""AP of the baseline."""

SD = 0.3
"""Standard deviation of one run over seeds: what COCO runs show."""


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Draw normal noise."""
    return rng.standard_normal(shape)


def t3(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Draw from a t with 3 degrees of freedom, of variance 1."""
    return rng.standard_t(3, shape) / np.sqrt(3)


def lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Draw minus a lognormal of shape 0.5, of mean 0 and variance 1: a tail of bad runs."""
    squared = 0.25
    return -(np.exp(0.5 * rng.standard_normal(shape)) - np.exp(squared / 2)) / np.sqrt(
        (np.exp(squared) - 1) * np.exp(squared)
    )


def skewed(skewness: float) -> Noise:
    """Return a draw from a gamma of some skewness, of mean 0 and variance 1."""
    shape_of = 4 / skewness**2

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return (rng.gamma(shape_of, 1, shape) - shape_of) / np.sqrt(shape_of)

    return draw


@dataclass(frozen=True)
class Failures:
    """Runs that do not learn.

    Attributes:
        rate: Chance of one.
        by: How far below the others it ends.
    """

    rate: float = 0.0
    by: float = 45.0

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """Draw what runs lose."""
        return self.by * (rng.random(shape) < self.rate)

    @property
    def mean(self) -> float:
        """What is lost on average."""
        return self.rate * self.by


@dataclass(frozen=True)
class World:
    """How the runs of a study come about.

    Attributes:
        arm_sd: Standard deviation of an arm's runs over seeds.
        baseline_sd: Of the baseline's.
        arm_noise: Shape of an arm's noise.
        baseline_noise: Of the baseline's.
        image_sd: Standard deviation of a difference over sets of validation images; it is known here.
        arm_failures: Runs of arms that do not learn.
        baseline_failures: Runs of the baseline.
        failing: How many of the arms have such runs; None for all.
        equal_means: Whether an arm's other runs make up for what it loses, so that the expected AP are equal.
        lost: Chance that a run is missing because the machine failed.
        wild: How many of the arms have ``arm_sd``; the others have the baseline's. None for all.
        rounded: Step that the numbers of all runs are rounded to before they are judged; 0 for none.
    """

    arm_sd: float = SD
    baseline_sd: float = SD
    arm_noise: Noise = normal
    baseline_noise: Noise = normal
    image_sd: float = 0.0
    arm_failures: Failures = field(default_factory=Failures)
    baseline_failures: Failures = field(default_factory=Failures)
    failing: int | None = None
    equal_means: bool = False
    lost: float = 0.0
    wild: int | None = None
    rounded: float = 0.0

    def runs(self, rng: np.random.Generator, studies: int, effects: tuple[float, ...], seeds: int) -> Pairs:
        """Make studies whose arms have these effects, failures apart."""
        arms = len(effects)
        shape = (studies, arms, seeds)
        arm_sd = np.where(np.arange(arms) < (arms if self.wild is None else self.wild), self.arm_sd, self.baseline_sd)
        arm = LEVEL + np.array(effects)[:, None] + arm_sd[:, None] * self.arm_noise(rng, shape)
        baseline = LEVEL + self.baseline_sd * self.baseline_noise(rng, (studies, 1, seeds))
        fails = np.arange(arms)[:, None] < (arms if self.failing is None else self.failing)
        arm -= fails * (self.arm_failures.draw(rng, shape) - self.arm_failures.mean * self.equal_means)
        baseline -= self.baseline_failures.draw(rng, baseline.shape)
        if self.image_sd:
            images = rng.standard_normal((studies, arms + 1, 1)) * self.image_sd / np.sqrt(2)
            arm, baseline = arm + images[:, 1:], baseline + images[:, :1]
        if self.lost:
            arm, baseline = _without_lost(arm, baseline, rng, self.lost)
        if self.rounded:
            arm, baseline = ((runs / self.rounded).round() * self.rounded for runs in (arm, baseline))
        return Pairs(arm, baseline, self.image_sd**2, rounded=self.rounded)


def _without_lost(arm: Floats, baseline: Floats, rng: np.random.Generator, lost: float) -> tuple[Floats, Floats]:
    """Leave out pairs of which a run is missing, and move up what remains, as a study pairs what there is."""
    baseline = np.broadcast_to(baseline, arm.shape).copy()
    gone = (rng.random(arm.shape) < lost) | (rng.random((len(arm), 1, arm.shape[-1])) < lost)
    order = np.argsort(gone, axis=-1, kind="stable")
    arm, baseline = np.take_along_axis(arm, order, -1), np.take_along_axis(baseline, order, -1)
    missing = np.take_along_axis(gone, order, -1)
    return np.where(missing, np.nan, arm), np.where(missing, np.nan, baseline)


WORLDS: dict[str, World] = {
    "normal": World(),
    "normal, image sd 0.2": World(image_sd=0.2),
    "t with 3 df": World(arm_noise=t3, baseline_noise=t3),
    "lognormal baseline": World(baseline_noise=lognormal),
    "arms 3x sd": World(arm_sd=3 * SD),
    "one arm 3x sd": World(arm_sd=3 * SD, wild=1),
    "skewness 1, arms only": World(baseline_sd=0.1, arm_noise=skewed(1)),
    "skewness 2, arms only": World(baseline_sd=0.1, arm_noise=skewed(2)),
    "skewness 4, arms only": World(baseline_sd=0.1, arm_noise=skewed(4)),
    "all fail half": World(arm_sd=0.1, baseline_sd=0.1, arm_failures=Failures(0.5), baseline_failures=Failures(0.5)),
    "all fail 20 %": World(arm_sd=0.1, baseline_sd=0.1, arm_failures=Failures(0.2), baseline_failures=Failures(0.2)),
    "runs lost, 20 %": World(lost=0.2),
}
"""Worlds in which arms and baseline have equal expected AP if the effects are zero."""

FAILING: dict[str, World] = {
    "fails 20 % by 45 AP": World(arm_sd=0.1, baseline_sd=0.1, arm_failures=Failures(0.2)),
    "fails 10 % by 10 AP": World(arm_sd=0.1, baseline_sd=0.1, arm_failures=Failures(0.1, 10)),
    "one arm fails 20 % by 45 AP": World(arm_sd=0.1, baseline_sd=0.1, arm_failures=Failures(0.2), failing=1),
}
"""Worlds in which the first arm is worse because some of its runs do not learn, and as good otherwise."""

MIRROR: dict[str, World] = {
    "equal means, arm fails 20 % by 45 AP": World(
        arm_sd=0.1, baseline_sd=0.1, arm_failures=Failures(0.2), equal_means=True
    ),
    "equal means, arm fails 10 % by 10 AP": World(
        arm_sd=0.1, baseline_sd=0.1, arm_failures=Failures(0.1, 10), equal_means=True
    ),
}
"""Worlds in which an arm is better when it learns, by just what it loses when it does not."""
