"""What a study will take, from timing a few training steps of every arm."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from attngraft._core.errors import PlanError
from attngraft._core.progress import Progress
from attngraft.measure import latency
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.plan import Arm, Plan
from attngraft.study.running.controls import own_cache
from attngraft.study.running.engines import fitting_workers

ROUNDS = 3

TIMED = 2
"""Most images in a step that is timed on the CPU, where a step takes as long as its images do: 32 at 640 pixels
through 50 layers take minutes, and more memory than many machines have."""

START_SECONDS = 10.0
"""Of a run's process before its first step and after its last."""

VALIDATION_SHARE = 1 / 3
"""Time of an image in validation beside that in training: the forward of a forward and a backward."""

COPIES = 6
"""Checkpoints of four bytes a parameter in a run's folder: last and best, each with the optimizer's two moments."""

RECORD_BYTES = 4_000_000

FEWEST_STEPS = 300
"""Optimizer steps below which a detector from scratch may still find nothing; the word of a forecast, not a rule."""


@dataclass(frozen=True)
class Forecast:
    """What a study will take.

    Attributes:
        frozen: The plan with its arms resolved.
        runs: How many runs, at most.
        parallel: How many at once.
        seconds: Of each arm's one run, and of the whole under ``""``.
        bytes: Of the study's folder.
        free: Bytes free where it will be.
        warnings: Sentences on what is likely to end without an answer.
    """

    frozen: FrozenPlan
    runs: int
    parallel: int
    seconds: dict[str, float]
    bytes: int
    free: int
    warnings: tuple[str, ...] = ()


def forecast(frozen: FrozenPlan, folder: Path, parallel: int | None, progress: Progress) -> Forecast:
    """Say what a study in a folder will take; see `Study.forecast`."""
    from attngraft.yolo.splits import split_images
    from attngraft.yolo.step import parameters

    plan = frozen.plan
    if plan.command is not None:
        raise PlanError("a program of yours takes an unknown time; status.json estimates it after the first run")
    train, val = (len(split_images(plan.data, split)) for split in ("train", "val"))
    if plan.folds is not None:
        train, val = (train + val) * (plan.folds - 1) // plan.folds, (train + val) // plan.folds
    train = round(train * float(plan.train["fraction"]))
    seen = train + VALIDATION_SHARE * val * bool(plan.train["val"])
    epochs = int(plan.train["epochs"])
    seconds, weights = {}, {}
    with own_cache():
        for arm in frozen.arms:  # one after another: together they would need the memory of all
            progress.started(f"timing {arm.name}")
            seconds[arm.name] = START_SECONDS + epochs * seen * _seconds_a_picture(arm, plan)
            weights[arm.name] = parameters(arm.model)
    at_once, seeds = parallel or fitting_workers(), plan.max_seeds or plan.seeds
    home = next(parent for parent in [folder, *folder.parents] if parent.exists())
    return Forecast(
        frozen=frozen,
        runs=seeds * len(frozen.arms),
        parallel=at_once,
        seconds={**seconds, "": seeds * sum(seconds.values()) / at_once},
        bytes=seeds * sum(4 * COPIES * count + RECORD_BYTES for count in weights.values()),
        free=shutil.disk_usage(home).free,
        warnings=tuple(_too_short(plan, train)),
    )


def _too_short(plan: Plan, images: int) -> Iterator[str]:
    """Say whether a base without weights has too few steps to learn anything."""
    from attngraft.yolo.host import has_weights

    steps = int(plan.train["epochs"]) * images // max(int(plan.train["batch"]), 1)
    if steps < FEWEST_STEPS and not has_weights(plan.base):
        yield (
            f"epochs={plan.train['epochs']} over {images} images at batch={plan.train['batch']} makes {steps} steps, "
            f"and a base without pretrained weights needs some {FEWEST_STEPS} before it finds anything; give more "
            "epochs, a smaller batch or a base with weights"
        )


def _seconds_a_picture(arm: Arm, plan: Plan) -> float:
    """Time training steps of an arm.

    Raises:
        PlanError: If one does not fit into memory.
    """
    from attngraft.yolo.options import data_channels
    from attngraft.yolo.step import step

    batch, device = max(int(plan.train["batch"]), 1), plan.train["device"]
    if device == "cpu" or not torch.cuda.is_available():  # a study may be planned where its accelerator is not
        batch, device = min(batch, TIMED), "cpu"
    try:
        once = step(arm.model, {**plan.train, "batch": batch, "device": device}, data_channels(plan.data))
        (timing,) = latency.compare({arm.name: once}, rounds=ROUNDS, warmup=1)
    except torch.OutOfMemoryError as error:
        raise PlanError(
            f"a training step of {arm.name} with batch={batch} at imgsz={plan.train['imgsz']} does not fit into this "
            "machine's memory; lower one of them"
        ) from error
    return timing.p50_ms / 1000 / batch
