"""Try what the statistics of a study promise, world by world, at the shipped code; and say where it does not hold.

    python benchmarks/statistics/simulate.py [--out benchmarks/statistics] [--scale 1.0] [--only WORD]

Every row is a promise in a world with a design: what was promised, what was found, and the Monte Carlo error of that.
Results are written after every row, and rows that are there already, with as many studies or more and at the same code,
are kept, so that a run may be stopped and started at will. The page is made from the results.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measures as m
import numpy as np
import scipy
from worlds import FAILING, MIRROR, WORLDS, World

from attngraft._core.files import write_text
from attngraft.study.judging import bootstrap, course, decision, design, learning, sequential, statistics

SESOI = 0.5
CHUNK = 2500
"""Studies simulated at once, so that the memory stays small."""

FORMAT = "attngraft.statistics/1"

DESIGNS: dict[str, m.Plan] = {
    "fixed 3": m.once(3),
    "fixed 5": m.once(5),
    "fixed 8": m.once(8),
    "fixed 20": m.once(20),
    "looks 3-15": m.looks(3, 15),
    "looks 3-20": m.looks(3, 20),
    "anytime, to 30": m.anytime(),
}
ARMS = (1, 3, 6)


@dataclass(frozen=True)
class Cell:
    """One row: a measurement, and what is promised of it.

    Attributes:
        part: The part of the page.
        labels: What tells it from the other rows of the part.
        measure: What is measured.
        studies: How many are simulated at ``--scale 1``.
        promised: Name of the measured share that a promise is about; empty where none is.
        most: What it promises to be at most.
        least: What it promises to be at least.
    """

    part: str
    labels: dict[str, Any]
    measure: m.Measure
    studies: int
    promised: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def key(self) -> str:
        """What results are kept under."""
        return " | ".join([self.part, *(f"{name}: {value}" for name, value in self.labels.items())])

    def run(self, studies: int) -> dict[str, Any]:
        """Simulate, and return means with their standard errors."""
        rng = np.random.default_rng(int(hashlib.sha256(self.key.encode()).hexdigest()[:12], 16))
        sums: dict[str, list[np.ndarray[Any, Any]]] = {}
        for start in range(0, studies, CHUNK):
            for name, values in self.measure(rng, min(CHUNK, studies - start)).items():
                sums.setdefault(name, []).append(np.asarray(values, dtype=float))
        found = {name: np.concatenate(values) for name, values in sums.items()}
        return {name: [float(v.mean()), float(v.std() / math.sqrt(len(v)))] for name, v in found.items()}

    def kept(self, found: dict[str, Any]) -> str:
        """Say whether the promise was kept: yes, no, or that the Monte Carlo error leaves it open."""
        if not self.promised:
            return ""
        value, error = found[self.promised]
        if self.most is None and self.least is None:
            return ""
        beyond = value - self.most if self.most is not None else (self.least or 0) - value
        return "yes" if beyond <= 0 else "open" if beyond <= 2 * error else "no"


PARTS: dict[str, str] = {
    "false better or worse": (
        "Any false `better` or `worse` in a study without any effect, and any false line on how often arms learn "
        "or on the runs that did; at most 5 % is promised, over all arms and looks together. SESOI 0.5, and 0.2, "
        "where fewer arms are settled as `no difference` before they can err. Runs vary by 0.3 AP unless the "
        "world says otherwise. At SESOI 0.2, some rows of the worlds that are not normal predate the rule that a run "
        "near the level of those that learned counts as one (`code` in `results.json` tells which); in the 46 such "
        "rows that were simulated again, false verdicts became rarer by 0.004 at most, and nowhere more frequent."
    ),
    "false no difference": (
        "`no difference` of arms whose effect is just the SESOI, an arm; at most 5 % is promised. `better` is the"
        " power."
    ),
    "runs that do not learn": (
        "An arm that is worse only because some of its runs do not learn (sd 0.1, SESOI 0.5). It is called `no "
        "difference` while no run of it has failed yet, so that is not promised; what is promised is that in at "
        "most 5 % of studies the rate of failures named beside it is below the true one (false statement)."
    ),
    "equal means, failing arm": (
        "An arm that is better when it learns by just what it loses when it does not. A `better` from runs that "
        "all learned is false; nothing short of more seeds can tell, so this promise of 5 % cannot be kept with "
        "few."
    ),
    "peeking": (
        "A fixed plan that is read at every seed: it says `interim` until its last pair, so peeking changes nothing."
    ),
    "extension": (
        "Plans that are extended when they end undecided, by inverse-normal combination; over the plan and all "
        "of its extensions at most 5 % is promised, and 5.6 % where the plan had a single look, which keeps nothing."
    ),
    "gatekeeping": (
        "Any false verdict against the baseline or, of arms that came out better, against the matched "
        "convolution; at most 5 % is promised for both together. Runs count all arms, baseline, noop and "
        "convolutions."
    ),
    "folds": (
        "One arm on a small validation set, judged on the same images at all seeds or on a fold for each seed; "
        "runs are those of arm and baseline. False verdicts of at most 5 % are promised."
    ),
    "few images": (
        "False verdicts without an effect where the image part (sd 0.3) is estimated from few images, from rare "
        "classes, or from images that come in groups; with effective images and the correction, and without."
    ),
    "rounded numbers": (
        "One arm whose numbers, and the baseline's, were rounded to a step before they were judged, as a table of AP "
        "to one decimal is (SESOI 0.5). Equal differences show no spread then, though there is one. False verdicts are "
        "`better` and `worse` without an effect, and `worse` and `no difference` with one of the SESOI or twice that; "
        "at most 5 % is promised, and the rule that takes the numbers as they stand is beside it."
    ),
    "search": (
        "Two winners of a search over nine candidates without an effect, confirmed on the images that chose them "
        "(no verdict is given), on the other half of them, or on a fresh split. The estimate is the mean of both "
        "winners."
    ),
    "intervals": (
        "Whether the printed intervals hold the truth where one arm stopped: at least 95 % and 90 % are promised,"
        " and that no interval contradicts its verdict. How often estimates are too high: 50 % is unbiased."
    ),
    "power of a fixed plan": ("Power of a t test at the seeds that docs/method.md gives for 80 %, one arm."),
    "tails": (
        "How often a two-sided test errs at a level, with the image part of the variance as a multiple of the "
        "seed part: the mixture, and Satterthwaite's single t."
    ),
    "shrinkage": (
        "What is not done: shrinking each arm's variance to that of all arms (limma), with 4 prior degrees of freedom, "
        "with 1, or guarded, never below an arm's own; 5.5 % was the limit. SESOI 0.5, sd 0.3."
    ),
    "runs to a verdict": (
        "Runs that one student pays for one arm (sd 0.3, SESOI 0.5, looks 3-20; noop at three seeds counted): "
        "before this edition, with the convolution beside the arm at every seed, and now; and savings over "
        "several arms against a fixed plan of 80 % power at the SESOI."
    ),
}


def cells() -> Iterator[Cell]:
    """List every row."""
    yield from _errors()
    yield from _failing()
    yield from _schedules()
    yield from _images()
    yield from _runs()
    yield from _intervals()
    yield from _shrinkage()


def _errors() -> Iterator[Cell]:
    for name, world in WORLDS.items():
        for arms in ARMS:
            for sesoi in (SESOI, 0.2):
                if sesoi == 0.2 and "fail" in name:
                    continue
                for title, plan in DESIGNS.items():
                    labels = {"world": name, "arms": arms, "SESOI": sesoi, "seeds": title}
                    measure = m.false_verdicts(world, (0.0,) * arms, plan, sesoi)
                    yield Cell("false better or worse", labels, measure, 10000, "false better or worse", most=0.05)
    for name, world in WORLDS.items():
        if "fail" in name:
            continue
        for title in ("fixed 8", "fixed 20", "looks 3-15", "looks 3-20", "anytime, to 30"):
            labels = {"world": name, "seeds": title}
            measure = m.false_equality(world, 3, DESIGNS[title], SESOI)
            yield Cell("false no difference", labels, measure, 10000, "false no difference", most=0.05)


def _failing() -> Iterator[Cell]:
    designs = {**DESIGNS, "fixed 12": m.once(12)}
    for name, world in FAILING.items():
        for title, plan in designs.items():
            arms = 3 if "one arm" in name else 1
            measure = m.failing(world, arms, plan, SESOI)
            labels = {"world": name, "arms": arms, "seeds": title}
            yield Cell("runs that do not learn", labels, measure, 10000, "false statement", most=0.05)
    for name, world in MIRROR.items():
        for title, plan in designs.items():
            measure = m.false_verdicts(world, (0.0,), plan, SESOI)
            labels = {"world": name, "seeds": title}
            yield Cell("equal means, failing arm", labels, measure, 10000, "better", most=0.05)


def _schedules() -> Iterator[Cell]:
    for last in (5, 10, 20):
        labels = {"arms": 1, "planned seeds": last}
        yield Cell("peeking", labels, m.peeking(1, last), 20000, "false better or worse", most=0.05)
    plans = {
        "looks 3-15, extended to 30": m.looks(3, 15, 30),
        "looks 3-15, extended to 20, 30 and 45": m.looks(3, 15, 20, 30, 45),
        "fixed 5, extended to 10": m.looks(5, 5, 10),
        "fixed 5, extended six times by 5": m.looks(5, *range(5, 40, 5)),
    }
    for title, plan in plans.items():
        for image_sd in (0.0, 0.2):
            for arms in ARMS:
                labels = {"seeds": title, "image sd": image_sd, "arms": arms}
                measure = m.false_verdicts(World(image_sd=image_sd), (0.0,) * arms, plan, 0.2)
                most = 0.05 if plan.design.first < plan.design.planned[0] else 0.05 / (1 - sequential.RESERVE)
                yield Cell("extension", labels, measure, 10000, "false better or worse", most=most)
    for kind, conv_same in (("null", True), ("real", True), ("one", True), ("real", False), ("one", False)):
        for arms in ARMS:
            if kind == "one" and arms == 1:
                continue
            for title in ("fixed 5", "looks 3-15", "looks 3-20"):
                effects = m.effects_of(kind, arms, SESOI)
                over = tuple(0.0 if conv_same else effect for effect in effects)
                labels = {
                    "arms": arms,
                    "real": kind,
                    "convolutions": "as good" if conv_same else "do nothing",
                    "seeds": title,
                }
                measure = m.gatekeeping(effects, over, DESIGNS[title], SESOI)
                yield Cell("gatekeeping", labels, measure, 10000, "false better or worse", most=0.05)


def _images() -> Iterator[Cell]:
    for image_sd in (0.2, 0.4):
        for effect in (0.0, SESOI):
            for count in (None, 5, 10):
                for title in ("fixed 20", "looks 3-20"):
                    labels = {"image sd": image_sd, "effect": effect, "folds": count or "none", "seeds": title}
                    measure = m.folds(effect, image_sd, count, DESIGNS[title], SESOI)
                    yield Cell("folds", labels, measure, 10000, "false verdicts", most=0.05)
    designs = {"fixed 2": m.once(2), **{title: DESIGNS[title] for title in ("fixed 3", "fixed 5", "looks 3-15")}}
    for step, sd in ((0.1, 0.03), (0.1, 0.1), (0.1, 0.3), (1.0, 0.3), (1.0, 1.0)):
        for effect in (0.0, SESOI, 2 * SESOI):
            for title, plan in designs.items():
                for careful in (True, False):
                    world = World(arm_sd=sd, baseline_sd=sd, rounded=step)
                    rule = "shipped" if careful else "rounding ignored"
                    labels = {"step": step, "sd": sd, "effect": effect, "seeds": title, "rule": rule}
                    measure = m.rounded(world, effect, plan, SESOI, careful=careful)
                    promised = {"promised": "false verdict", "most": 0.05} if careful else {}
                    yield Cell("rounded numbers", labels, measure, 20000, **promised)
    scenes = {
        "20": m.Scenes((20,)),
        "50": m.Scenes((50,)),
        "100": m.Scenes((100,)),
        "100 in 3 classes, one on 4": m.Scenes((60, 36, 4)),
        "100 in 10 groups": m.Scenes((100,), 10, 0.5),
        "100 in 20 groups": m.Scenes((100,), 5, 0.5),
    }
    for name, made in scenes.items():
        for title in ("fixed 5", "fixed 20", "looks 3-15"):
            for careful, grouped in ((True, True), (False, False)):
                labels = {"images": name, "seeds": title, "rule": "shipped" if careful else "normal, ungrouped"}
                measure = m.few_images(made, DESIGNS[title], 0.2, careful=careful, grouped=grouped)
                promised = {"promised": "false better or worse", "most": 0.05} if careful else {}
                yield Cell("few images", labels, measure, 5000, **promised)
    for image_sd in (0.2, 0.4, 0.8):
        for how in ("same", "half", "fresh"):
            labels = {"image sd": image_sd, "confirmed on": how, "seeds": "fixed 5"}
            measure = m.search(9, 2, image_sd, DESIGNS["fixed 5"], how, SESOI)
            yield Cell("search", labels, measure, 10000, "false better or worse", most=0.05)


def _runs() -> Iterator[Cell]:
    for effect in (0.0, 0.3, 0.5, 1.0):
        for title, measure in (
            ("before, looks 3-20", m.before((effect,), 20, SESOI)),
            ("now, looks 3-20", m.gatekeeping((effect,), (effect,), DESIGNS["looks 3-20"], SESOI)),
            ("now, looks 3-15", m.gatekeeping((effect,), (effect,), DESIGNS["looks 3-15"], SESOI)),
        ):
            yield Cell("runs to a verdict", {"effects": f"{effect:g}", "rule": title}, measure, 10000)
    for kind, arms in (("null", 3), ("one", 3), ("real", 3), ("null", 6)):
        effects = m.effects_of(kind, arms, SESOI)
        text = ", ".join(f"{effect:g}" for effect in effects)
        for title, measure in (
            ("before, looks 3-20", m.before(effects, 20, SESOI)),
            ("now, looks 3-20", m.gatekeeping(effects, effects, DESIGNS["looks 3-20"], SESOI)),
        ):
            yield Cell("runs to a verdict", {"effects": text, "rule": title}, measure, 5000)
    for (sd, effect), seeds in METHOD_TABLE.items():
        labels = {"sd": sd, "effect": effect, "seeds": seeds}
        yield Cell("power of a fixed plan", labels, m.fixed_power(effect, seeds, sd), 20000, "shown", least=0.8)


def _intervals() -> Iterator[Cell]:
    for effect in (0.0, 0.25, 0.5, 1.0):
        for image_sd in (0.0, 0.1):
            for title in ("fixed 8", "looks 3-15", "looks 3-20", "anytime, to 30"):
                labels = {"effect": effect, "image sd": image_sd, "seeds": title}
                measure = m.coverage(World(image_sd=image_sd), effect, DESIGNS[title], SESOI)
                yield Cell("intervals", labels, measure, 2500, "95 % interval holds it", least=0.95)
    for seeds in (3, 5, 10):
        for ratio in (0.0, 0.1, 1.0, 10.0):
            for level in (0.05, 0.0125, 0.00125):
                labels = {"seeds": seeds, "ratio": ratio, "level": level}
                yield Cell("tails", labels, m.tails(seeds, ratio, level), 200000, "mixture", most=level)


def _shrinkage() -> Iterator[Cell]:
    for title in ("fixed 3", "fixed 5", "looks 3-15"):
        for arms in (3, 6):
            for kind, wild in (("null", 1.0), ("null", 2.0), ("null", 3.0), ("real", 1.0)):
                for form in ("off", "d0 = 4", "d0 = 1", "guard"):
                    labels = {"seeds": title, "arms": arms, "real": kind, "sd of the first": wild, "form": form}
                    measure = m.shrinkage(DESIGNS[title], wild, m.effects_of(kind, arms, SESOI), form, SESOI)
                    yield Cell("shrinkage", labels, measure, 10000, "false better or worse", most=0.055)


METHOD_TABLE = {
    (0.2, 0.3): 10, (0.2, 0.5): 5, (0.2, 1.0): 3,
    (0.3, 0.3): 18, (0.3, 0.5): 8, (0.3, 1.0): 4,
    (0.5, 0.3): 46, (0.5, 0.5): 18, (0.5, 1.0): 7,
}  # fmt: skip
"""Runs per arm that docs/method.md gives for 80 % power, by standard deviation of a run and effect."""


def code() -> str:
    """Return a checksum of the shipped rules, docstrings and comments apart."""
    digest = hashlib.sha256()
    for module in (bootstrap, course, decision, design, learning, sequential, statistics):
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                kept = [one for one in body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
                node.body = kept  # type: ignore[attr-defined]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def page(rows: Sequence[dict[str, Any]]) -> str:
    """Write the results as Markdown."""
    broken = [row for row in rows if row["kept"] == "no"]
    promised = [row for row in rows if row["kept"]]
    lines = ["# What the statistics of a study promise, and where it does not hold", ""]
    lines += ["Generated by `python benchmarks/statistics/simulate.py`; do not edit.", ""]
    lines += [
        f"{len(rows)} rows, {len(promised)} of them with a promise: kept in "
        f"{sum(row['kept'] == 'yes' for row in promised)}, open within the Monte Carlo error in "
        f"{sum(row['kept'] == 'open' for row in promised)}, broken in {len(broken)}.",
    ]
    for part, text in PARTS.items():
        mine = [row for row in rows if row["part"] == part]
        if mine:
            lines += ["", f"## {part[0].upper()}{part[1:]}", "", text, "", *_table(mine)]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    labels, names = list(rows[0]["labels"]), list(dict.fromkeys(name for row in rows for name in row["found"]))
    promised = any(row["kept"] for row in rows)
    head = [*labels, *names, "studies", *(["promise kept"] if promised else [])]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells_ = [str(row["labels"].get(name, "")) for name in labels]
        found = [row["found"].get(name) for name in names]
        cells_ += [f"{one[0]:.3f} ± {one[1]:.3f}" if one else "" for one in found]
        cells_ += [str(row["studies"]), *([row["kept"]] if promised else [])]
        lines.append("| " + " | ".join(cells_) + " |")
    return lines


def read(file: Path) -> dict[str, dict[str, Any]]:
    """Read what was found before."""
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    return {row["key"]: row for row in rows}


def write(out: Path, rows: dict[str, dict[str, Any]], order: Sequence[Cell]) -> None:
    """Write results and page, in the order of the cells."""
    sorted_ = [rows[cell.key] for cell in order if cell.key in rows]
    about = {"format": FORMAT, "numpy": np.__version__, "scipy": scipy.__version__, "python": platform.python_version()}
    text = ",\n".join(json.dumps(row) for row in sorted_)
    head = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in about.items())
    write_text(out / "results.json", f'{{{head}, "rows": [\n{text}\n]}}\n')
    write_text(out / "README.md", page(sorted_))


def main() -> None:
    """Simulate what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", action="store_true", help="keep rows of other code too")
    options = parser.parse_args()
    rows, order, now = read(options.out / "results.json"), list(cells()), code()
    for cell in order:
        studies = max(2, round(cell.studies * options.scale))
        had = rows.get(cell.key)
        fits = had and (options.keep or had["code"] == now) and had["studies"] >= studies
        if options.only not in cell.key or fits:
            continue
        start = time.process_time()
        found = cell.run(studies)
        rows[cell.key] = {
            "key": cell.key, "part": cell.part, "labels": cell.labels, "found": found, "studies": studies,
            "promised": cell.promised, "most": cell.most, "least": cell.least, "kept": cell.kept(found),
            "code": now, "date": datetime.date.today().isoformat(),
        }  # fmt: skip
        write(options.out, rows, order)
        print(f"{cell.key}: {rows[cell.key]['kept']} ({time.process_time() - start:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
