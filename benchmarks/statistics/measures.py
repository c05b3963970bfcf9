"""What is measured of simulated studies; every function returns one number a study, by name.

All of them go through the shipped `Design`, `decide` and `gatekeep`; only the runs are made up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special
from worlds import LEVEL, SD, Floats, World

from attngraft.study.judging.bootstrap import effective
from attngraft.study.judging.course import Course, Pairs
from attngraft.study.judging.decision import BETTER, EQUAL, WORSE, Decision, PValues, decide
from attngraft.study.judging.design import Design
from attngraft.study.judging.learning import failures_not_excluded
from attngraft.study.judging.sequential import Looks
from attngraft.study.judging.statistics import gatekeep

Measured = dict[str, Floats]
Measure = Callable[[np.random.Generator, int], Measured]

ALPHA = 0.05
ANYTIME_SEEDS = 30
"""Seeds to which a study without a last look is followed."""


@dataclass(frozen=True)
class Plan:
    """A design, and how many seeds it is followed to."""

    design: Design
    seeds: int


def once(seeds: int) -> Plan:
    """Return a fixed plan."""
    return Plan(Design(seeds, (seeds,)), seeds)


def looks(first: int, *stages: int) -> Plan:
    """Return a plan with looks after every seed, and its extensions."""
    return Plan(Design(first, stages), stages[-1])


def anytime(seeds: int = ANYTIME_SEEDS) -> Plan:
    """Return a plan without a last look."""
    return Plan(Design(3, None), seeds)


@dataclass(frozen=True, eq=False)
class Judged:
    """Simulated studies and their verdicts."""

    courses: list[Course]
    p: PValues
    decision: Decision

    @property
    def seeds(self) -> NDArray[np.int64]:
        """Pairs of each arm at its last look."""
        look = self.decision.look[..., None]
        return np.asarray(np.take_along_axis(self.p.course.seeds, look, -1)[..., 0])


def judged(plan: Plan, pairs: Pairs, sesoi: float, second: Floats | None = None, arms: int | None = None) -> Judged:
    """Judge simulated studies as a study does."""
    courses = plan.design.courses(pairs, sesoi)
    tests = plan.design.p_values(courses, sesoi)
    return Judged(courses, tests, decide(tests, sesoi=sesoi, alpha=ALPHA, planned=arms, second=second))


def false_verdicts(world: World, effects: tuple[float, ...], plan: Plan, sesoi: float) -> Measure:
    """Any `better` or `worse` of an arm without an effect, the two lines of studies with failing runs included."""

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        found = judged(plan, world.runs(rng, studies, effects, plan.seeds), sesoi).decision
        none = np.array(effects) == 0
        wrong = np.isin(found.outcome, (BETTER, WORSE)) & none
        lines = ((found.learning != 0) | (found.among != 0)) & none
        return {
            "false better or worse": (wrong | lines).any(1),
            "better": (found.outcome == BETTER).mean(1),
            "worse": (found.outcome == WORSE).mean(1),
            "no difference": (found.outcome == EQUAL).mean(1),
        }

    return measure


def rounded(world: World, effect: float, plan: Plan, sesoi: float, *, careful: bool = True) -> Measure:
    """Verdicts on one arm from numbers that were rounded; ``careful=False`` judges as if they were not."""

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        pairs = world.runs(rng, studies, (effect,), plan.seeds)
        found = judged(plan, pairs if careful else replace(pairs, rounded=0.0), sesoi).decision.outcome[:, 0]
        return {
            "false verdict": np.isin(found, (BETTER, WORSE)) if effect == 0 else (found == WORSE) | (found == EQUAL),
            "better": found == BETTER,
            "no difference": found == EQUAL,
        }

    return measure


def false_equality(world: World, arms: int, plan: Plan, sesoi: float) -> Measure:
    """`no difference` of arms whose effect is the SESOI, an arm."""

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        found = judged(plan, world.runs(rng, studies, (sesoi,) * arms, plan.seeds), sesoi).decision
        return {
            "false no difference": (found.outcome == EQUAL).mean(1),
            "better": (found.outcome == BETTER).mean(1),
        }

    return measure


def failing(world: World, arms: int, plan: Plan, sesoi: float) -> Measure:
    """Verdicts on a first arm that is worse only because some of its runs fail."""

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        found = judged(plan, world.runs(rng, studies, (0.0,) * arms, plan.seeds), sesoi)
        equal = found.decision.outcome[:, 0] == EQUAL
        excluded = np.array([failures_not_excluded(max(seeds, 1), ALPHA) for seeds in found.seeds[:, 0].tolist()])
        return {
            "false no difference": equal,
            "false statement": equal & (world.arm_failures.rate > excluded),
            "false better": found.decision.outcome[:, 0] == BETTER,
            "worse": found.decision.outcome[:, 0] == WORSE,
        }

    return measure


def coverage(world: World, effect: float, plan: Plan, sesoi: float) -> Measure:
    """Whether the printed intervals hold the truth where one arm stopped, and on which side estimates are."""

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        found = judged(plan, world.runs(rng, studies, (effect,), plan.seeds), sesoi)
        look, courses = found.decision.look, found.courses
        low, high = plan.design.interval(courses, look, ALPHA / 2, kind="every")
        near, far = plan.design.interval(courses, look, ALPHA, kind="equal")
        under, over = plan.design.interval(courses, look, 0.5, kind="every")
        mean = np.take_along_axis(found.p.course.every.mean, look[..., None], -1)[:, 0, 0]
        unbiased = (under + over)[:, 0] / 2
        equal = found.decision.outcome[:, 0] == EQUAL
        inside = (near[:, 0] > -sesoi) & (far[:, 0] < sesoi)
        better = found.decision.outcome[:, 0] == BETTER
        return {
            "95 % interval holds it": (low[:, 0] <= effect) & (effect <= high[:, 0]),
            "90 % interval holds it": (near[:, 0] <= effect) & (effect <= far[:, 0]),
            "interval contradicts the verdict": (equal & ~inside) | (better & (low[:, 0] < -1e-6)),
            "plain estimate too high": mean > effect,
            "median-unbiased estimate too high": unbiased > effect,
            "plain bias": mean - effect,
            "median-unbiased bias": unbiased - effect,
            "seeds": found.seeds[:, 0].astype(float),
        }

    return measure


def peeking(arms: int, last: int) -> Measure:
    """Reading a fixed plan at every seed: verdicts of a t test each time, and the shipped rule, which waits."""
    plan = once(last)

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        pairs = World().runs(rng, studies, (0.0,) * arms, last)
        peeked = Design(3, (last,)).courses(pairs, 1e9)
        above, below = (peeked[0].every.p_values(0, sign) for sign in (1, -1))
        naive = (2 * np.minimum(above, below) <= ALPHA / arms).any((1, 2))
        found = judged(plan, pairs, 0.5).decision
        return {
            "false better or worse": np.isin(found.outcome, (BETTER, WORSE)).any(1),
            "a t test each time": naive,
        }

    return measure


def gatekeeping(
    effects: tuple[float, ...], over_conv: tuple[float, ...], plan: Plan, sesoi: float, world: World | None = None
) -> Measure:
    """Any false verdict against the baseline or the matched convolution, and the runs that it takes."""
    world = world or World()
    arms = len(effects)

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        pairs = world.runs(rng, studies, effects, plan.seeds)
        noise = rng.standard_normal(pairs.arm.shape) * world.baseline_sd
        conv = LEVEL + (np.array(effects) - np.array(over_conv))[:, None] + noise
        first, second, p = with_convolutions(plan, pairs, conv, sesoi)
        passed = first.decision.outcome == BETTER
        answered = gatekeep(first.decision.p_single, p)[1] <= ALPHA
        null, null_conv = np.array(effects) == 0, np.array(over_conv) == 0
        against_baseline = np.isin(first.decision.outcome, (BETTER, WORSE)) & null
        against_conv = answered & passed & null_conv
        beats = answered & passed & (second.decision.learning.reshape(-1, arms) == 0)
        return {
            "false better or worse": (against_baseline | against_conv).any(1),
            "better": passed.mean(1),
            "beats conv": (beats & ~null_conv).mean(1),
            "runs": runs_spent(first, second, passed, arms),
        }

    return measure


def with_convolutions(plan: Plan, pairs: Pairs, conv: Floats, sesoi: float) -> tuple[Judged, Judged, Floats]:
    """Judge arms, and those that come out better against their convolutions, as `judge` and `judge_second` do."""
    studies, arms, seeds = pairs.arm.shape
    apart = Pairs(pairs.arm.reshape(-1, 1, seeds), conv.reshape(-1, 1, seeds), pairs.image_variance)
    alone = judged(plan, apart, sesoi, arms=arms)
    final = alone.decision.p_single.reshape(studies, arms)
    p = np.ones((studies, arms))
    found = judged(plan, pairs, sesoi, second=p)
    for _ in range(2):
        p = np.where(found.decision.outcome == BETTER, final, 1)
        found = replace(found, decision=decide(found.p, sesoi=sesoi, alpha=ALPHA, second=p))
    return found, alone, p


def runs_spent(first: Judged, second: Judged, passed: NDArray[np.bool_], arms: int) -> Floats:
    """Count runs: arms, the baseline, noop at three seeds, and convolutions of arms that came out better."""
    own = first.seeds
    conv = np.where(passed, second.seeds.reshape(-1, arms), 0)
    return np.asarray(np.maximum(own, conv).sum(1) + np.maximum(own.max(1), 0) + 3.0 + conv.sum(1))


def before(effects: tuple[float, ...], last: int, sesoi: float) -> Measure:
    """The rule before this edition: a convolution trained beside every arm, no floor for `no difference`."""

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        pairs = World().runs(rng, studies, effects, last)
        course = Design(3, (last,)).courses(pairs, 1e9)[0]
        rule = Looks(3, last)
        sides = [rule.p_values(course.every.p_values(0, sign)) for sign in (1, -1)]
        inside = [rule.p_values(course.every.p_values(-sesoi, sign)) for sign in (1, -1)]
        different = np.minimum(2 * np.minimum(*sides), 1) <= ALPHA / len(effects)
        done = different | (np.maximum(*inside) <= ALPHA)
        stopped = np.where(done.any(-1), done.argmax(-1), done.shape[-1] - 1) + 3
        return {"runs": 2.0 * stopped.sum(1) + stopped.max(1) + 3, "undecided": 1 - done.any(-1).mean(1)}

    return measure


def folds(effect: float, image_sd: float, count: int | None, plan: Plan, sesoi: float) -> Measure:
    """One arm on a small validation set: the same images for all seeds, or a fold for each seed."""

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        pairs = World().runs(rng, studies, (effect,), plan.seeds)
        parts = count or 1
        images = rng.standard_normal((studies, 1, parts)) * image_sd
        arm = pairs.arm + images[..., np.arange(plan.seeds) % parts]
        overlap = 1 / (count - 1) if count else 0.0
        variance = 0.0 if count else image_sd**2
        pairs = replace(pairs, arm=arm, image_variance=variance, overlap=overlap)
        found = judged(plan, pairs, sesoi)
        outcome = found.decision.outcome[:, 0]
        wrong = np.isin(outcome, (BETTER, WORSE)) if effect == 0 else (outcome == WORSE) | (outcome == EQUAL)
        return {
            "false verdicts": wrong,
            "undecided": outcome == 0,
            "runs": 2.0 * found.seeds[:, 0],
        }

    return measure


@dataclass(frozen=True)
class Scenes:
    """Validation images: how many each class is on, in groups of how many that resemble each other.

    Attributes:
        per_class: Images of each class.
        group: Images in a group.
        alike: Share of an image's variance that its group has in common.
    """

    per_class: tuple[int, ...]
    group: int = 1
    alike: float = 0.0


def few_images(
    scenes: Scenes, plan: Plan, sesoi: float, *, image_sd: float = 0.3, careful: bool = True, grouped: bool = True
) -> Measure:
    """False verdicts without an effect where the variance over images is estimated from few of them.

    The bootstrap variance of a mean over classes is taken in closed form; effective images, correction and all tests
    are the shipped ones. ``careful=False`` leaves the first two out, ``grouped=False`` draws single images.
    """

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        arm = World().runs(rng, studies, (0.0,), plan.seeds)
        spread = image_sd / np.sqrt(sum(1 / n for n in scenes.per_class) / len(scenes.per_class) ** 2)
        mean, one, units = np.zeros((studies, plan.seeds)), np.zeros((studies, plan.seeds)), []
        of_mean = np.zeros((studies, plan.seeds))
        for images in scenes.per_class:
            value = _image_values(scenes, images, spread, plan.seeds, studies, rng)
            unit = value if not grouped else value.reshape(studies, plan.seeds, -1, scenes.group).mean(-1)
            units.append(unit.shape[-1])
            classes = len(scenes.per_class)
            mean += value.mean(-1) / classes
            one += unit.var(-1) / unit.shape[-1] / classes**2
            rising = np.cumsum(unit, 1) / np.arange(1, plan.seeds + 1)[:, None]
            of_mean += rising.var(-1) / unit.shape[-1] / classes**2
        counts = np.arange(1, plan.seeds + 1)
        of_one = np.cumsum(one, 1) / counts
        variance = np.maximum(of_mean - (of_one - of_mean) / np.maximum(counts - 1, 1), 0)
        count, correction = effective(np.array(units), sum(units)) if careful else (np.inf, 1.0)
        pairs = replace(
            arm,
            arm=arm.arm + mean[:, None],
            image_variance=(variance * correction)[:, None],
            image_freedom=max(count - 1, 1.0),
        )
        found = judged(plan, pairs, sesoi).decision
        return {"false better or worse": np.isin(found.outcome, (BETTER, WORSE)).any(1)}

    return measure


def _image_values(
    scenes: Scenes, images: int, spread: float, seeds: int, studies: int, rng: np.random.Generator
) -> Floats:
    """Draw what a seed gains on an image, ``(studies, seeds, images)``: of the image, and of the two together."""
    groups = images // scenes.group
    shared = np.repeat(rng.standard_normal((studies, 1, groups)), scenes.group, -1) * np.sqrt(scenes.alike)
    own = rng.standard_normal((studies, 1, images)) * np.sqrt(1 - scenes.alike)
    both = 0.5 * rng.standard_normal((studies, seeds, images))
    return np.asarray(spread * (shared + own + both))


def search(candidates: int, winners: int, image_sd: float, plan: Plan, how: str, sesoi: float) -> Measure:
    """Winners of a search without any effect, confirmed on the images that chose them, on half of them, on others."""

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        scale = image_sd * (np.sqrt(2) if how == "half" else 1)
        first, other = (rng.standard_normal((studies, candidates)) * scale / np.sqrt(2) for _ in range(2))
        screened = first + SD * rng.standard_normal((studies, candidates))
        chosen = np.argsort(-screened, 1)[:, :winners]
        kept = np.take_along_axis(first if how == "same" else other, chosen, 1)
        pairs = World().runs(rng, studies, (0.0,) * winners, plan.seeds)
        baseline = rng.standard_normal((studies, 1, 1)) * scale / np.sqrt(2)
        pairs = replace(
            pairs, arm=pairs.arm + kept[..., None], baseline=pairs.baseline + baseline, image_variance=scale**2
        )
        found = judged(plan, pairs, sesoi).decision
        wrong = np.isin(found.outcome, (BETTER, WORSE)).any(1)
        mean = (pairs.arm - pairs.baseline).mean((1, 2))
        shipped = np.zeros(studies, dtype=bool) if how == "same" else wrong
        return {"false better or worse": shipped, "if it were judged": wrong, "estimate": mean}

    return measure


def fixed_power(effect: float, seeds: int, sd: float = SD) -> Measure:
    """How often a fixed plan shows that one arm differs, whether or not that is worth having."""

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        world = World(arm_sd=sd, baseline_sd=sd)
        found = judged(once(seeds), world.runs(rng, studies, (effect,), seeds), effect)
        return {"shown": found.p.above[:, 0, -1] <= ALPHA / 2}

    return measure


def tails(seeds: int, ratio: float, level: float) -> Measure:
    """How often the mixture of two t errs, and Satterthwaite's single t, at a level."""
    from attngraft.study.judging.statistics import probability

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        seed_part = rng.chisquare(seeds - 1, studies) / (seeds - 1)
        total = seed_part + ratio
        t = -abs(rng.standard_normal(studies) * np.sqrt(1 + ratio)) / np.sqrt(total)
        single = special.stdtr(total**2 / (seed_part**2 / (seeds - 1)), t)
        ours = probability(t, seeds - 1, seed_part / total)
        return {"mixture": 2 * ours <= level, "Satterthwaite": 2 * single <= level}

    return measure


def effects_of(kind: str, arms: int, sesoi: float) -> tuple[float, ...]:
    """Return the effects of some arms: all ``null``, all ``real``, or ``one`` of them real."""
    if kind == "null":
        return (0.0,) * arms
    real: Sequence[float] = [2 * sesoi] * (arms if kind == "real" else 1)
    return (*real, *(0.0,) * (arms - len(real)))


def shrinkage(plan: Plan, wild_sd: float, effects: tuple[float, ...], form: str, sesoi: float) -> Measure:
    """Judge with each arm's variance shrunk to that of all arms (limma), which a study does not do.

    ``form`` is ``off``, ``d0 = 4`` or ``d0 = 1`` (prior degrees of freedom), or ``guard``, which with ``d0 = 4`` never
    goes below an arm's own variance. The first arm has ``wild_sd`` times the others' deviation.
    """
    prior = {"off": 0.0, "d0 = 1": 1.0}.get(form, 4.0)

    def measure(rng: np.random.Generator, studies: int) -> Measured:
        world = World(arm_sd=wild_sd * SD, wild=1)
        pairs = world.runs(rng, studies, effects, plan.seeds)
        (course,) = plan.design.courses(pairs, sesoi)
        every = course.every
        counts = every.freedom + 1
        own = every.error**2 * counts
        residual = [_residual(pairs, int(count)) for count in counts[0, 0]]
        pooled = 2 * np.stack(residual, -1)[:, None]
        shrunk = (prior * pooled + every.freedom * own) / (prior + every.freedom)
        variance = np.maximum(shrunk, own) if form == "guard" else shrunk
        moments = replace(every, error=np.sqrt(variance / counts), freedom=every.freedom + prior)
        shifted = replace(course, every=moments, among=moments)
        found = decide(plan.design.p_values([shifted], sesoi), sesoi=sesoi, alpha=ALPHA)
        seeds = counts[0, 0].astype(int)[found.look]
        none = np.array(effects) == 0
        return {
            "false better or worse": (np.isin(found.outcome, (BETTER, WORSE)) & none).any(1),
            "better": (found.outcome == BETTER).mean(1),
            "runs": seeds.sum(1) + seeds.max(1) + 3.0,
        }

    return measure


def _residual(pairs: Pairs, count: int) -> Floats:
    """Return the variance of what is left of runs when their seeds and their arms are taken out, ``(N,)``."""
    runs = np.concatenate([pairs.arm, pairs.baseline], 1)[..., :count]
    rest = runs - runs.mean(-1, keepdims=True) - runs.mean(1, keepdims=True) + runs.mean((1, 2), keepdims=True)
    return np.asarray((rest**2).sum((1, 2)) / ((runs.shape[1] - 1) * (count - 1)))
