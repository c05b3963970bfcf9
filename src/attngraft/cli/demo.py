"""``attngraft demo``: a study in miniature, on data where only a model that sees the whole image can do well.

The class of an object is told by a beacon far away. A small detector that cannot see so far is studied as it is, with
attention, and with a plain convolution of the same size in its place.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from attngraft._core.errors import AttngraftError
from attngraft._core.files import free_path
from attngraft.cli.output import console as new_console
from attngraft.data import beacons
from attngraft.study import Plan, Study

BASE = "attngraft-micro.yaml"
# There are no pretrained weights to protect here, so the attention speaks from the first step.
ARM = "mhsa(init=paper)@P3"
SEEDS = 2
EPOCHS = 12
SESOI = 1.0
# Colours and far cues are the data here, so Ultralytics' colour, mosaic and scale augmentation stay off.
TRAINING = {
    "imgsz": 96, "batch": 16, "nbs": 16, "optimizer": "AdamW", "lr0": 2e-3, "lrf": 0.05,
    "cos_lr": True, "warmup_epochs": 1, "warmup_bias_lr": 0, "weight_decay": 1e-4, "mosaic": 0, "close_mosaic": 0,
    "hsv_h": 0, "hsv_s": 0, "hsv_v": 0, "translate": 0, "scale": 0, "erasing": 0, "fliplr": 0.5, "flipud": 0.5,
    "amp": False, "workers": 0,
}  # fmt: skip
Rule = Literal["global", "local"]
ABOUT: dict[Rule, str] = {
    "global": "the class of an object is told by a beacon far away, which this small model can only see by attention",
    "local": "the class of an object is told by its own dot, and attention has nothing to add",
}


class DemoError(AttngraftError, RuntimeError):
    """A run of the demonstration that failed; names its log."""


def run_demo(
    out: Path,
    *,
    device: str,
    parallel: int,
    rule: Rule = "global",
    train: int = 800,
    val: int = 200,
    epochs: int = EPOCHS,
    seeds: int = SEEDS,
) -> Path:
    """Make the data, study one mechanism on it, and say what came out.

    Args:
        out: Folder to fill; the next free name is taken if it exists.
        device: The device of Ultralytics, such as ``cpu`` or ``0``.
        parallel: How many training runs at once.
        rule: What tells the class of an object.
        train: Images to train on.
        val: Images to validate on.
        epochs: Epochs of each run.
        seeds: Runs of each arm.

    Returns:
        The report.

    Raises:
        DemoError: If a run fails.
        OutputError: If the folder cannot be written.
    """
    console = new_console()
    started = time.monotonic()
    out = free_path(out).resolve()
    data = beacons(out / "beacons", rule=rule, train=train, val=val)
    console.print(f"{train} images for training and {val} for validation in {out}: {ABOUT[rule]}", soft_wrap=True)
    training = {**TRAINING, "epochs": epochs, "device": device}
    study = Study(
        Plan(str(data), (ARM,), base=BASE, controls=("stock", "conv"), seeds=seeds, sesoi=SESOI, train=training),
        folder=out / "study",
    )
    failed = study.run(parallel=parallel, console=console, anyway=True)  # what came out is the demonstration
    for run in failed:
        raise DemoError(f"the run '{run}' failed; its output is in {study.store.log(run)}")
    concluded = study.conclude()
    for sentence in concluded.answers:
        console.print(sentence, style="bold", soft_wrap=True, highlight=False)
    console.print(f"{time.monotonic() - started:.0f} s in all. Open the report: {concluded.report}", soft_wrap=True)
    return concluded.report
