"""``attngraft demo``: four small trainings that show when attention helps and when it has nothing to add.

The same pictures twice: in ``global`` the class of an object is told by a beacon far away, in ``local`` by its own dot.
A small detector that cannot see so far is trained on both, without attention and with it.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from attngraft._core.errors import AttngraftError
from attngraft._core.files import free_path
from attngraft.data import beacons
from attngraft.data.pictures import Box, side_by_side

BASE = "attngraft-micro.yaml"
# There are no pretrained weights to protect here, so the attention speaks from the first step.
ARMS = {"no attention": BASE, "with mhsa": f"{BASE}+mhsa(init=paper)@P3"}
Rule = Literal["global", "local"]
RULES: tuple[Rule, Rule] = ("global", "local")
EPOCHS = 12
# Colours and far cues are the data here, so the host's colour, mosaic and scale augmentation stay off.
TRAINING = {
    "imgsz": 96, "batch": 16, "nbs": 16, "optimizer": "AdamW", "lr0": 2e-3, "lrf": 0.05,
    "cos_lr": True, "warmup_epochs": 1, "warmup_bias_lr": 0, "weight_decay": 1e-4, "mosaic": 0, "close_mosaic": 0,
    "hsv_h": 0, "hsv_s": 0, "hsv_v": 0, "translate": 0, "scale": 0, "erasing": 0, "fliplr": 0.5, "flipud": 0.5,
    "seed": 0, "amp": False, "val": False, "plots": False, "workers": 0,
}  # fmt: skip
SHOWN = 6
"""How many validation pictures are drawn."""


class DemoError(AttngraftError, RuntimeError):
    """A training of the demonstration that failed; names its log."""


@dataclass(frozen=True)
class Run:
    """One of the four trainings.

    Attributes:
        rule: Which data set: ``global`` or ``local``.
        arm: ``no attention`` or ``with mhsa``.
        folder: Where its results go.
        epochs: How long it trains.
    """

    rule: Rule
    arm: str
    folder: Path
    epochs: int

    @property
    def rows(self) -> list[dict[str, str]]:
        """The epochs so far, as the host writes them."""
        file = self.folder / "results.csv"
        return list(csv.DictReader(file.read_text().splitlines())) if file.is_file() else []

    def metric(self, name: str) -> float:
        """Return a metric of the last epoch."""
        row = {key.strip(): value for key, value in self.rows[-1].items()}
        return float(row[f"metrics/{name}(B)"])


def run_demo(out: Path, *, device: str, workers: int, train: int = 800, val: int = 200, epochs: int = EPOCHS) -> None:
    """Make the data, train the four models, print the table and draw what they find.

    Args:
        out: Folder to fill; the next free name is taken if it exists.
        device: The host's device, such as ``cpu`` or ``0``.
        workers: How many trainings run at once.
        train: Pictures to train on.
        val: Pictures to validate on.
        epochs: Epochs of each training.

    Raises:
        DemoError: If a training fails.
        OutputError: If the folder cannot be written.
    """
    console = Console()
    out = free_path(out).resolve()
    data = {rule: beacons(out / f"beacons-{rule}", rule=rule, train=train, val=val) for rule in RULES}
    console.print(f"pictures made in {out}: {train} for training and {val} for validation, twice")
    runs = [Run(rule, arm, out / "runs" / f"{rule}-{arm.replace(' ', '-')}", epochs) for rule in RULES for arm in ARMS]
    started = time.monotonic()
    seconds = _train(runs, data, device, workers, console)
    sheet = _draw(runs, data["global"].parent, out / "predictions.png", device)
    console.print(_table(runs, seconds, device))
    console.print(
        "global: the class is told by a beacon far away, which this small model can only see through attention.\n"
        "local: the class is told by the object itself, and attention has nothing to add.\n"
        f"\n{time.monotonic() - started:.0f} s in all. Pictures of what both models find: [bold]{sheet}[/bold]"
    )


def _train(runs: list[Run], data: dict[Rule, Path], device: str, workers: int, console: Console) -> dict[Run, float]:
    """Run the trainings as processes of their own, and show how far each has come."""
    bar = Progress(
        TextColumn("{task.description:22}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeElapsedColumn()
    )
    with bar if console.is_terminal else _Lines(console) as progress, ThreadPoolExecutor(workers) as pool:
        futures = {run: pool.submit(_train_one, run, data[run.rule], device) for run in runs}
        tasks = {
            run: progress.add_task(f"{run.rule}, {run.arm}", total=run.epochs, state="waiting", start=False)
            for run in runs
        }
        try:
            while not all(future.done() for future in futures.values()):
                _show(progress, tasks, futures)
                time.sleep(0.5)
        except KeyboardInterrupt:
            for future in futures.values():
                future.cancel()
            raise
        _show(progress, tasks, futures)
    return {run: future.result() for run, future in futures.items()}


def _show(progress: Any, tasks: dict[Run, Any], futures: dict[Run, Future[float]]) -> None:
    for run, task in tasks.items():
        if futures[run].running() or futures[run].done():
            progress.start_task(task)
            done = len(run.rows)
            end = f", mAP50 {run.metric('mAP50'):.3f}" if done == run.epochs else ""
            state = f"epoch {done}/{run.epochs}{end}"
            progress.update(task, completed=done, state=state)


class _Lines:
    """Stands in for the progress bars where there is no terminal: a line whenever something has changed."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.said: dict[str, str] = {}

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def add_task(self, description: str, **_: Any) -> str:
        return description

    def start_task(self, task: str) -> None:
        self.said.setdefault(task, "")

    def update(self, task: str, *, completed: int, state: str) -> None:
        if completed and self.said[task] != state:
            self.said[task] = state
            self.console.print(f"{task}: {state}")


def _train_one(run: Run, data: Path, device: str) -> float:
    """Train one model in a process of its own; return the seconds it took."""
    run.folder.parent.mkdir(exist_ok=True)
    options = {
        **TRAINING,
        "epochs": run.epochs,
        "data": data,
        "device": device,
        "project": run.folder.parent,
        "name": run.folder.name,
    }
    words = [f"{key}={value}" for key, value in options.items()]
    log = run.folder.with_suffix(".log")
    started = time.monotonic()
    with log.open("w") as sink:
        command = [sys.executable, "-m", "attngraft", "train", f"model={ARMS[run.arm]}", *words]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=sink, stderr=subprocess.STDOUT, env=one_thread, check=False)
    if done.returncode:
        raise DemoError(
            f"the training '{run.rule}, {run.arm}' ended with code {done.returncode}; its output is in {log}"
        )
    return time.monotonic() - started


def _table(runs: list[Run], seconds: dict[Run, float], device: str) -> Table:
    table = Table(
        "data", "model", "mAP50-95", "mAP50", "parameters", "seconds", title=f"beacons, {runs[0].epochs} epochs, seed 0"
    )
    for run in runs:
        parameters = sum(p.numel() for p in _model(run).model.parameters())
        values = [f"{run.metric(name):.3f}" for name in ("mAP50-95", "mAP50")]
        table.add_row(run.rule, run.arm, *values, f"{parameters:,}", f"{seconds[run]:.0f}")
    return table


def _draw(runs: list[Run], data: Path, sheet: Path, device: str) -> Path:
    """Draw the first validation pictures with the truth and what both models find, side by side."""
    pictures = sorted((data / "images" / "val").glob("*.png"))[:SHOWN]
    columns = {"truth": [_truth(picture) for picture in pictures]}
    for run in runs[: len(ARMS)]:
        results = _model(run)(pictures, imgsz=TRAINING["imgsz"], conf=0.25, verbose=False, device=device)
        columns[run.arm] = [[_box(*values) for values in result.boxes.data.tolist()] for result in results]
    return side_by_side(pictures, columns, sheet, class_names=["red", "green"])


def _box(left: float, top: float, right: float, bottom: float, confidence: float, label: float) -> Box:
    """Make a box of what the host gives for one detection."""
    return Box(left, top, right, bottom, int(label), confidence)


def _truth(picture: Path) -> list[Box]:
    from PIL import Image

    with Image.open(picture) as image:
        side = image.width
    label = picture.parents[2] / "labels" / picture.parent.name / f"{picture.stem}.txt"
    boxes = []
    for line in label.read_text().splitlines():
        cls, x, y, w, h = map(float, line.split())
        left, top, right, bottom = (v * side for v in (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
        boxes.append(Box(left, top, right, bottom, int(cls)))
    return boxes


def _model(run: Run) -> Any:
    from attngraft.yolo import YOLO

    return YOLO(run.folder / "weights" / "last.pt")
