"""Time judging a large study, a look after one more seed and the breakdown by class, on generated COCO-sized runs.

    python benchmarks/judging.py [--arms 10] [--seeds 20] [--images 5000] [--out benchmarks/results/judging.json]

All runs share one match table: the time depends on how many detections there are, not on whose they are. A look after
one more seed reads from the study's cache what was resampled before.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bootstrap import generate

from attngraft.coco.evaluate import match
from attngraft.coco.matches import Matches
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.judging.breakdown import breakdown
from attngraft.study.judging.cache import Cache
from attngraft.study.judging.evidence import Evidence, criterion
from attngraft.study.plan import Plan

SCHEMA = "attngraft.judging/1"


def study(arms: int, seeds: int) -> FrozenPlan:
    """Return a plan with so many arms."""
    names = [f"eca(kernel_size={2 * number + 3})@P5" for number in range(arms)]
    plan = Plan.of({"data": "coco.yaml", "arms": names, "controls": "stock", "seeds": f"3-{seeds}"})
    return FrozenPlan(plan, tuple(plan.recipes()))


def evidence(frozen: FrozenPlan, run: Matches, seeds: int, cache: Cache) -> Evidence:
    """Return the runs of every arm at so many seeds."""
    tables = {arm.name: {seed: run_of(run, arm.name, seed) for seed in range(seeds)} for arm in frozen.arms}
    return Evidence(frozen, tables, criterion=criterion(frozen.plan), cache=cache)


def judge(found: Evidence) -> float:
    """Judge every arm, and return the seconds."""
    start = time.perf_counter()
    verdicts = found.against_stock()
    assert len(verdicts) == len(found.frozen.arms) - 1
    return time.perf_counter() - start


def break_down(found: Evidence) -> float:
    """Compute the table by metric, size and class, as a report does, and return the seconds."""
    start = time.perf_counter()
    table = breakdown(found, found.frozen.plan.alpha)
    assert len(table.classes) > 1
    return time.perf_counter() - start


def run_of(run: Matches, arm: str, seed: int) -> Matches:
    """Return the table with scores of its own, so that no run is another from the cache."""
    shift = np.random.default_rng([seed, len(arm) + sum(map(ord, arm))]).uniform(0, 1e-4)
    return replace(run, score=run.score * (1 - shift))


def main() -> None:
    """Read the options, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    run = match(*generate(options.images, np.random.default_rng(0)))
    frozen = study(options.arms, options.seeds)
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder), writes=True)
        before = judge(evidence(frozen, run, options.seeds - 1, cache))
        last = evidence(frozen, run, options.seeds, cache)
        look = judge(last)
        parts = break_down(last)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.date.today().isoformat(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "versions": {"numpy": np.__version__, "python": platform.python_version()},
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": round(os.getloadavg()[0], 1),
        "arms": options.arms,
        "seeds": options.seeds,
        "images": options.images,
        "detections_per_run": len(run.score),
        "judging_all_seeds_but_one_s": round(before, 1),
        "look_after_the_last_seed_s": round(look, 1),
        "in_all_s": round(before + look, 1),
        "breakdown_by_class_s": round(parts, 1),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "earlier_over_later": round(before / look, 1),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
