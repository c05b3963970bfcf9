"""What a study will take, from timing a few training steps of every arm."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from attngraft.measure import latency
from attngraft.study.controls import own_cache
from attngraft.study.engines import fitting_workers
from attngraft.study.plan import Fixed

ROUNDS = 3
START_SECONDS = 10.0
"""Of a run's process before its first step and after its last."""

VALIDATION_SHARE = 1 / 3
"""Time of a picture in validation beside that in training: the forward of a forward and a backward."""

COPIES = 6
"""Checkpoints of four bytes a parameter in a run's folder: last and best, each with the optimizer's two moments."""

RECORD_BYTES = 4_000_000


@dataclass(frozen=True)
class Forecast:
    """What a study will take.

    Attributes:
        fixed: The plan with its arms settled.
        runs: How many runs, at most.
        workers: How many at once.
        seconds: Of each arm's one run, and of the whole under ``""``.
        bytes: Of the study's folder.
        free: Bytes free where it will be.
    """

    fixed: Fixed
    runs: int
    workers: int
    seconds: dict[str, float]
    bytes: int
    free: int


def forecast(fixed: Fixed, folder: Path, workers: int | None) -> Forecast:
    """Say what a study in a folder will take; see `Study.forecast`."""
    import torch

    from attngraft.yolo.training import parameters, pictures, step

    plan = fixed.plan
    step_ms, weights = {}, {}
    # A study may be planned where its accelerator is not.
    options = plan.train if torch.cuda.is_available() else {**plan.train, "device": "cpu"}
    with own_cache():
        for arm in fixed.arms:  # one after another: together they would need the memory of all
            (timing,) = latency.compare({arm.name: step(arm.model, options)}, rounds=ROUNDS, warmup=1)
            step_ms[arm.name], weights[arm.name] = timing.p50_ms, parameters(arm.model)
    train, val = pictures(plan.data, "train") * float(plan.train["fraction"]), pictures(plan.data, "val")
    seen = train + VALIDATION_SHARE * val * bool(plan.train["val"])
    batch = max(int(plan.train["batch"]), 1)
    epochs = int(plan.train["epochs"])
    seconds = {name: START_SECONDS + epochs * seen / batch * ms / 1000 for name, ms in step_ms.items()}
    at_once, seeds = workers or fitting_workers(), plan.max_seeds or plan.seeds
    home = next(parent for parent in [folder, *folder.parents] if parent.exists())
    return Forecast(
        fixed=fixed,
        runs=seeds * len(fixed.arms),
        workers=at_once,
        seconds={**seconds, "": seeds * sum(seconds.values()) / at_once},
        bytes=seeds * sum(4 * COPIES * count + RECORD_BYTES for count in weights.values()),
        free=shutil.disk_usage(home).free,
    )
