"""Show by simulation what the statistics of a study promise: coverage, error rates, power, and runs saved.

    python studies/simulation/simulate.py [--scale 1.0] [--out studies/simulation]

Everything goes through the product's own `estimate`, `decide` and `Looks`; only the runs are made up. Units are AP
points. ``--scale`` multiplies the number of simulated studies; 1 takes a few minutes on one core.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from attngraft.coco.matches import IOU_THRESHOLDS, SIZES, Matches
from attngraft.study.judging.bootstrap import Resampled, image_weights, resample, two_level
from attngraft.study.judging.sequential import Looks, path
from attngraft.study.judging.statistics import (
    OUTCOMES,
    Course,
    Decision,
    Estimate,
    decide,
    estimate,
    interval_after_looks,
    probability,
)

Floats = NDArray[np.float64]
Row = dict[str, Any]

RUN_SD = 0.3
"""Standard deviation of one run over seeds, in AP: what COCO runs show."""

METHOD_TABLE = {
    (0.2, 0.3): 10, (0.2, 0.5): 5, (0.2, 1.0): 3,
    (0.3, 0.3): 18, (0.3, 0.5): 8, (0.3, 1.0): 4,
    (0.5, 0.3): 46, (0.5, 0.5): 18, (0.5, 1.0): 7,
}  # fmt: skip
"""Runs per arm that docs/method.md gives for 80 % power, by standard deviation of a run and effect."""

NOISES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Floats]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "skewed": lambda rng, shape: (rng.gamma(4, 1, shape) - 4) / 2,
    "heavy-tailed": lambda rng, shape: rng.standard_t(5, shape) / np.sqrt(5 / 3),
}
"""Noise of a run over seeds, mean 0 and variance 1; the skewed one has skewness 1."""


@dataclass(frozen=True)
class World:
    """How simulated studies come about.

    Attributes:
        effects: True difference of each arm from the stock model.
        sd: Standard deviation of one run over seeds.
        image_sd: Standard deviation of a difference over sets of validation images, shared by all its seeds.
        noise: One of `NOISES`.
    """

    effects: tuple[float, ...]
    sd: float = RUN_SD
    image_sd: float = 0.0
    noise: str = "normal"

    def course(self, looks: Looks, studies: int, rng: np.random.Generator) -> Course:
        """Simulate studies: estimates of every arm at every look, ``(studies, arms, K)``."""
        arms = len(self.effects)
        runs = NOISES[self.noise](rng, (studies, arms + 1, looks.last)) * self.sd
        images = rng.standard_normal((studies, arms + 1, 1)) * self.image_sd / np.sqrt(2)
        mean, error, freedom = path(runs[:, 1:] - runs[:, :1], looks.first)
        mean = mean + (images[:, 1:] - images[:, :1]) + np.array(self.effects)[:, None]
        both = error**2 + self.image_sd**2
        return Course(mean, np.sqrt(both), np.broadcast_to(freedom, mean.shape), error**2 / both)

    def decide(
        self, looks: Looks, studies: int, rng: np.random.Generator, *, sesoi: float, alpha: float = 0.05
    ) -> Decision:
        """Simulate studies and judge them."""
        return decide(self.course(looks, studies, rng), looks, sesoi=sesoi, alpha=alpha)


def share(decision: Decision, outcome: str) -> Floats:
    """Return the share of studies in which each arm got a verdict."""
    return np.asarray((decision.outcome == OUTCOMES.index(outcome)).mean(0))


def false_verdict(decision: Decision, effects: Sequence[float], sesoi: float) -> float:
    """Return the share of studies in which any verdict is false."""
    effect = np.array(effects)
    wrong = (decision.outcome == OUTCOMES.index("better")) & (effect <= 0)
    wrong |= (decision.outcome == OUTCOMES.index("worse")) & (effect >= 0)
    wrong |= (decision.outcome == OUTCOMES.index("no difference")) & (abs(effect) >= sesoi)
    return float(wrong.any(1).mean())


def runs_spent(decision: Decision, looks: Looks) -> float:
    """Return the mean number of runs of a study: the seeds of each arm, and the stock model's for the longest."""
    seeds = looks.seeds[decision.look]
    return float((seeds.sum(1) + seeds.max(1)).mean())


def family_wise_error(studies: int, seed: int = 1) -> Iterable[Row]:
    """Studies with any false verdict where no arm has an effect; 5 % is promised."""
    rng = np.random.default_rng(seed)
    for arms in (1, 4, 8):
        for noise, image_sd in (("normal", 0.0), ("normal", 0.2), ("skewed", 0.0), ("heavy-tailed", 0.0)):
            world = World((0.0,) * arms, image_sd=image_sd, noise=noise)
            for design, looks in (
                ("fixed, 5", Looks(5, 5)),
                ("fixed, 20", Looks(20, 20)),
                ("looks 3-20", Looks(3, 20)),
            ):
                decision = world.decide(looks, studies, rng, sesoi=0.3)
                wrong = false_verdict(decision, world.effects, 0.3)
                yield {"arms": arms, "noise": noise, "image sd": image_sd, "seeds": design, "false verdicts": wrong}


def mixed_error(studies: int, seed: int = 2) -> Iterable[Row]:
    """False verdicts where some arms have a true effect; an arm exactly at the SESOI is the hardest.

    `better` and `worse` are held over all arms, `no difference` arm by arm.
    """
    rng = np.random.default_rng(seed)
    for effects in ((0.0, 0.0, 0.6, 0.9), (0.0, 0.0, 0.3, 0.6), (0.0, 0.3, 0.3, 0.3), (0.0, 0.15, -0.3, 0.6)):
        for design, looks in (("fixed, 20", Looks(20, 20)), ("looks 3-30", Looks(3, 30))):
            decision = World(effects).decide(looks, studies, rng, sesoi=0.3)
            wrong = np.isin(decision.outcome, (1, 2)) & (np.sign(effects) != np.array([0, 1, -1, 0])[decision.outcome])
            equal = (decision.outcome == 3) & (np.abs(effects) >= 0.3)
            yield {
                "effects": ", ".join(f"{e:g}" for e in effects),
                "seeds": design,
                "false better or worse": float(wrong.any(1).mean()),
                "false no difference, worst arm": float(equal.mean(0).max()),
                "any false verdict": false_verdict(decision, effects, 0.3),
            }


def tails(studies: int, seed: int = 8) -> Iterable[Row]:
    """How often a two-sided test of one arm errs, as a multiple of its level: ours, and Satterthwaite's single t.

    The ratio is that of the image part to the seed part of the variance; with several arms and looks the small levels
    are the ones that count.
    """
    rng = np.random.default_rng(seed)
    for seeds in (3, 5, 10):
        for ratio in (0.0, 0.1, 0.3, 1.0, 3.0, 10.0):
            seed_part = rng.chisquare(seeds - 1, studies) / (seeds - 1)
            total = seed_part + ratio
            t = -abs(rng.standard_normal(studies) * np.sqrt(1 + ratio)) / np.sqrt(total)
            ours = 2 * probability(t, seeds - 1, seed_part / total)
            single = 2 * scipy.special.stdtr(total**2 / (seed_part**2 / (seeds - 1)), t)
            row: Row = {"seeds": seeds, "ratio": f"{ratio:g}"}
            for level in (0.05, 0.0125, 0.00125):
                row[f"ours at {level:g}"] = float((ours <= level).mean() / level)
                row[f"Satterthwaite at {level:g}"] = float((single <= level).mean() / level)
            yield row


def coverage(
    studies: int, seed: int = 3, images: int = 200, resamples: int = 200, counts: Sequence[int] = (3, 5, 10)
) -> Iterable[Row]:
    """How often the 95 % interval holds the truth, against a percentile bootstrap and a t interval on seeds alone.

    AP is a mean over images here, and a difference has effects of the seed, of the image, and of the two together.
    """
    rng = np.random.default_rng(seed)
    for seeds in counts:
        for noise, seed_sd, image_sd, both_sd in (
            ("normal", 0.42, 0.0, 0.0),
            ("normal", 0.42, 0.1, 0.1),
            ("normal", 0.42, 0.2, 0.2),
            ("normal", 0.2, 0.4, 0.4),
            ("skewed", 0.42, 0.1, 0.1),
            ("heavy-tailed", 0.42, 0.1, 0.1),
        ):
            hits = np.zeros(3)
            for _ in range(studies):
                of_runs = NOISES[noise](rng, (2, seeds, 1)) * seed_sd / np.sqrt(2)
                of_image = rng.standard_normal((1, images)) * image_sd * np.sqrt(images)
                of_both = rng.standard_normal((seeds, images)) * both_sd * np.sqrt(images)
                value = of_runs[0] - of_runs[1] + of_image + of_both
                weights = image_weights(images, resamples, rng) / images
                pairs = Resampled(value.mean(1), value @ weights.T, images)
                now = estimate(pairs)
                percentile = np.quantile(two_level(pairs, seed=int(rng.integers(1 << 31))), (0.025, 0.975))
                intervals = (now.interval(), tuple(percentile), replace(now, image_sd=0.0).interval())
                hits += [low <= 0 <= high for low, high in intervals]
            yield {
                "seeds": seeds,
                "noise": noise,
                "sd of seed, image, both": f"{seed_sd:g}, {image_sd:g}, {both_sd:g}",
                "ours": hits[0] / studies,
                "percentile bootstrap": hits[1] / studies,
                "t on seeds alone": hits[2] / studies,
            }


def coverage_after_looks(
    studies: int, seed: int = 4, effects: Sequence[float] = (0.0, 0.15, 0.3, 0.6)
) -> Iterable[Row]:
    """How often the interval that a study with looks prints holds the truth, at the look where the arm stopped."""
    rng = np.random.default_rng(seed)
    looks = Looks(3, 20)
    for effect in effects:
        for image_sd in (0.0, 0.1):
            course = World((effect,), image_sd=image_sd).course(looks, studies, rng)
            decision = decide(course, looks, sesoi=0.3, alpha=0.05)
            ours = plain = 0
            for study, look in enumerate(decision.look[:, 0]):
                seeds = int(looks.seeds[look])
                seed_variance = course.error[study, 0, look] ** 2 * course.share[study, 0, look] * seeds
                now = Estimate(seeds, float(course.mean[study, 0, look]), float(np.sqrt(seed_variance)), image_sd)
                low, high = interval_after_looks(now, looks, sesoi=0.3)
                ours += low <= effect <= high
                low, high = now.interval()
                plain += low <= effect <= high
            yield {
                "effect": effect,
                "image sd": image_sd,
                "ours": ours / studies,
                "plain interval": plain / studies,
                "mean seeds": float(looks.seeds[decision.look].mean()),
            }


def coverage_of_ap(studies: int, seed: int = 5) -> Iterable[Row]:
    """The same for AP itself, from match tables of a small detector; the truth is the mean over all studies."""
    rng = np.random.default_rng(seed)
    for seeds, images in ((3, 100), (5, 100), (5, 300)):
        estimates = []
        for _ in range(studies):
            world = _Scenes(images, rng)
            stock = resample([world.run(0.0, rng) for _ in range(seeds)], resamples=100)
            arm = resample([world.run(0.15, rng) for _ in range(seeds)], resamples=100)
            estimates.append(estimate(arm - stock))
        truth = float(np.mean([now.difference for now in estimates]))
        held = [low <= truth <= high for low, high in (now.interval() for now in estimates)]
        yield {
            "seeds": seeds,
            "images": images,
            "true difference": truth,
            "seed sd": float(np.mean([now.seed_sd for now in estimates])),
            "image sd": float(np.mean([now.image_sd for now in estimates])),
            "ours": float(np.mean(held)),
        }


class _Scenes:
    """Validation images that differ in difficulty, and in how much a better detector gains on them."""

    classes = 3

    def __init__(self, images: int, rng: np.random.Generator) -> None:
        count = rng.poisson(4, images) + 1
        self.images = images
        self.image = np.repeat(np.arange(images), count)
        self.category = rng.choice(self.classes, len(self.image), p=[0.6, 0.3, 0.1])
        self.ease = rng.standard_normal(len(self.image)) + rng.standard_normal(images)[self.image]
        self.gain = 1 + rng.standard_normal(images)[self.image]

    def run(self, skill: float, rng: np.random.Generator) -> Matches:
        """Make the match table of one seed of a detector."""
        quality = self.ease + skill * self.gain + 0.02 * rng.standard_normal()
        quality += 0.3 * rng.standard_normal(len(self.ease))
        overlap = 1 / (1 + np.exp(-quality))
        extra = rng.poisson(4, self.images)
        image = np.concatenate([self.image, np.repeat(np.arange(self.images), extra)])
        category = np.concatenate([self.category, rng.integers(0, self.classes, extra.sum())])
        score = np.concatenate([quality, rng.standard_normal(extra.sum()) - 0.5]) + 0.5 * rng.standard_normal(
            len(image)
        )
        powers = 1 << np.arange(len(IOU_THRESHOLDS))
        matched = np.concatenate([(overlap[:, None] >= IOU_THRESHOLDS) @ powers, np.zeros(extra.sum())])
        order = np.lexsort((image, -score, category))
        pairs, objects = np.unique(np.stack([self.category, self.image]), axis=1, return_counts=True)
        four = np.ones((len(SIZES), 1), dtype=np.uint16)
        return Matches(
            images=np.arange(self.images),
            classes=np.array([f"class {c}" for c in range(self.classes)]),
            first=np.searchsorted(category[order], np.arange(self.classes + 1)),
            score=score[order],
            image=image[order].astype(np.int32),
            rank=np.zeros(len(order), dtype=np.uint8),
            matched=four * matched[order].astype(np.uint16),
            ignored=np.zeros((len(SIZES), len(order)), dtype=np.uint16),
            object_class=pairs[0].astype(np.int32),
            object_image=pairs[1].astype(np.int32),
            objects=four * objects.astype(np.uint16),
        )


def power_table(studies: int, seed: int = 6) -> Iterable[Row]:
    """Power of the fixed design at the seeds that docs/method.md gives for 80 %, one arm, no equivalence verdicts."""
    rng = np.random.default_rng(seed)
    for (sd, effect), seeds in METHOD_TABLE.items():
        found = [
            float(share(World((effect,), sd=sd).decide(Looks(n, n), studies, rng, sesoi=1e-9), "better")[0])
            for n in (seeds - 1, seeds)
            if n > 1
        ]
        yield {"sd": sd, "effect": effect, "seeds": seeds, "power with one fewer": found[0], "power": found[-1]}


def runs_saved(studies: int, seed: int = 7) -> Iterable[Row]:
    """Runs of a study with looks against the smallest fixed design that is as good.

    As good: at the SESOI it finds `better` as often, and at no effect `no difference` as often, each within 1 %.
    """
    rng = np.random.default_rng(seed)
    for sesoi, last in ((0.5, 18), (0.3, 40)):
        looks = Looks(3, last)
        hardest = (0.0, 0.0, sesoi, 2 * sesoi)
        found = World(hardest).decide(looks, 4 * studies, rng, sesoi=sesoi)
        better, equal = share(found, "better")[2], share(found, "no difference")[:2].mean()
        fixed = _as_good(hardest, better - 0.01, equal - 0.01, sesoi, 4 * studies, rng)
        for name, effects in (
            ("0, 0, 0, 0", (0.0,) * 4),
            ("0, 0, 1, 2", hardest),
            ("0, 0, 2, 3", (0.0, 0.0, 2 * sesoi, 3 * sesoi)),
            ("2, 2, 2, 2", (2 * sesoi,) * 4),
        ):
            decision = World(effects).decide(looks, studies, rng, sesoi=sesoi)
            spent = runs_spent(decision, looks)
            yield {
                "SESOI": sesoi,
                "looks": f"3-{last}",
                "fixed": fixed,
                "power at SESOI": float(better),
                "equivalence at 0": float(equal),
                "effects in SESOI": name,
                "runs, fixed": fixed * (len(effects) + 1),
                "runs, looks": spent,
                "saved": 1 - spent / (fixed * (len(effects) + 1)),
                "false verdicts": false_verdict(decision, effects, sesoi),
            }


def _as_good(
    effects: tuple[float, ...], better: float, equal: float, sesoi: float, studies: int, rng: np.random.Generator
) -> int:
    seeds = 3
    while True:
        decision = World(effects).decide(Looks(seeds, seeds), studies, rng, sesoi=sesoi)
        if share(decision, "better")[2] >= better and share(decision, "no difference")[:2].mean() >= equal:
            return seeds
        seeds += 1


PARTS: dict[str, tuple[Callable[[int], Iterable[Row]], int]] = {
    "family-wise error under the null": (family_wise_error, 20000),
    "false verdicts with true effects": (mixed_error, 20000),
    "error of the test in the tails": (tails, 400000),
    "coverage of the 95 % interval": (coverage, 2000),
    "coverage after looks": (coverage_after_looks, 1000),
    "coverage of AP from match tables": (coverage_of_ap, 300),
    "power of the fixed design": (power_table, 20000),
    "runs saved by looking": (runs_saved, 5000),
}


def markdown(parts: dict[str, list[Row]], about: Row) -> str:
    """Write the results as Markdown tables."""
    lines = ["# What the statistics of a study promise, by simulation", "", "Generated by simulate.py; do not edit."]
    lines += ["", ", ".join(f"{key} {value}" for key, value in about.items()) + "."]
    for title, rows in parts.items():
        explained = " ".join((PARTS[title][0].__doc__ or "").split())
        lines += ["", f"## {title[0].upper()}{title[1:]}", "", explained, ""]
        lines += ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        for row in rows:
            cells = (f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values())
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate everything and write results.json and README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only")
    options = parser.parse_args()
    parts: dict[str, list[Row]] = {}
    for title, (part, studies) in PARTS.items():
        if options.only and options.only not in title:
            continue
        start = time.process_time()
        parts[title] = list(part(max(2, round(studies * options.scale))))
        print(f"{title}: {time.process_time() - start:.0f} s", flush=True)
        if options.only:
            print(markdown(parts, {}))
    if options.only:
        return
    about = {
        "date": datetime.date.today().isoformat(),
        "scale": options.scale,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }
    (options.out / "results.json").write_text(json.dumps({"about": about, "parts": parts}, indent=1) + "\n")
    (options.out / "README.md").write_text(markdown(parts, about))


if __name__ == "__main__":
    main()
