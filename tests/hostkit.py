"""Tiny data sets for every task of the host, a real training command, and a clean working folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

TRAIN = {
    "epochs": 1, "imgsz": 64, "batch": 4, "device": "cpu", "workers": 0, "plots": False, "verbose": False,
    "amp": False, "optimizer": "SGD", "lr0": 0.1, "warmup_epochs": 0, "nbs": 4,
}  # fmt: skip
"""Host arguments of a training run that ends in seconds and moves every parameter.

``nbs`` lets each batch take a step: the host gathers 64 images for one, and its older releases take none where an epoch
ends before.
"""


@pytest.fixture(autouse=True)
def _workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, so that runs/ and checkpoints land there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTNGRAFT_CACHE", str(tmp_path / "cache"))


def write_images(folder: Path, count: int, rng: np.random.Generator) -> list[Path]:
    folder.mkdir(parents=True)
    files = []
    for index in range(count):
        picture = rng.integers(90, 130, (64, 64, 3), dtype=np.uint8)
        picture[16:48, 16:48] = (220, 60, 60) if index % 2 else (60, 60, 220)
        files.append(folder / f"{index}.png")
        Image.fromarray(picture).save(files[-1])
    return files


LABELS = {
    "detect": "{cls} 0.5 0.5 0.5 0.5",
    "segment": "{cls} 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75",
    "obb": "{cls} 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75",
    "pose": "{cls} 0.5 0.5 0.5 0.5 0.25 0.25 2 0.75 0.75 2",
}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return a function that makes the data set of a task once and gives the path the host wants."""
    made: dict[str, str] = {}

    def make(task: str = "detect") -> str:
        if task not in made:
            folder = tmp_path_factory.mktemp(task)
            made[task] = _classify(folder) if task == "classify" else _labelled(folder, task)
        return made[task]

    return make


def _classify(folder: Path) -> str:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        files = write_images(folder / split / "all", 8, rng)
        for index, file in enumerate(files):
            home = folder / split / ("red" if index % 2 else "blue")
            home.mkdir(exist_ok=True)
            file.rename(home / file.name)
        (folder / split / "all").rmdir()
    return str(folder)


def _labelled(folder: Path, task: str) -> str:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        files = write_images(folder / "images" / split, 8, rng)
        labels = folder / "labels" / split
        labels.mkdir(parents=True)
        for index, file in enumerate(files):
            (labels / f"{file.stem}.txt").write_text(LABELS[task].format(cls=index % 2) + "\n")
    description: dict[str, Any] = {"path": str(folder), "train": "images/train", "val": "images/val"}
    description["names"] = {0: "blue", 1: "red"}
    if task == "pose":
        description["kpt_shape"] = [2, 3]
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump(description))
    return str(file)


@pytest.fixture(scope="session")
def gray_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a tiny model on grayscale images, as ``channels: 1`` in a data file asks for, and return its weights."""
    from attngraft import YOLO

    folder = tmp_path_factory.mktemp("gray")
    file = Path(_labelled(folder, "detect"))
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "channels": 1}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNGRAFT_CACHE", str(folder / "cache"))
        YOLO("attngraft-micro.yaml+mhsa(init=paper)@P3").train(
            **{**TRAIN, "data": str(file), "project": str(folder), "name": "run", "val": False}
        )
    return folder / "run/weights/last.pt"


@pytest.fixture
def fresh() -> Callable[..., str]:
    """Return a function that runs Python code in a new interpreter and gives what it prints."""

    def run(code: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
