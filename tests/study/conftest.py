"""A real tiny data set, options of trainings that end in seconds, and a study made up of known detections."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attngraft.coco.error_types import error_types
from attngraft.coco.evaluate import evaluate
from attngraft.data import beacons
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.plan import Arm
from attngraft.study.running.records import Record, Run, Store
from attngraft.study.study import Study
from tests.coco.problems import problem as problem

TINY = {
    "base": "attngraft-micro.yaml", "epochs": 1, "imgsz": 64, "batch": 8, "device": "cpu", "amp": False,
    "optimizer": "SGD", "lr0": 0.01, "warmup_epochs": 0, "val": False,
    "train": {"workers": 0},
}  # fmt: skip
"""Keys of a plan whose runs end in seconds."""

COSTS = {"name": "", "flops": 21_000_000, "trained_parameters": 131_650}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(beacons(tmp_path_factory.mktemp("beacons"), train=16, val=8))


@pytest.fixture(autouse=True)
def _workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, so that nothing lands in the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATTNGRAFT_CACHE", str(tmp_path / "cache"))


def truth_of(data: Path) -> dict[str, Any]:
    """Say in COCO's format what the labels of the validation split say."""
    images, annotations = [], []
    for index, label in enumerate(sorted((data.parent / "labels" / "val").glob("*.txt")), 1):
        images.append({"id": index, "file_name": f"{label.stem}.png", "width": 96, "height": 96})
        for line in label.read_text().splitlines():
            kind, x, y, w, h = map(float, line.split())
            box = [96 * (x - w / 2), 96 * (y - h / 2), 96 * w, 96 * h]
            annotations.append({"image_id": index, "category_id": int(kind), "bbox": box, "area": box[2] * box[3]})
    for index, annotation in enumerate(annotations, 1):
        annotation |= {"id": index, "iscrowd": 0}
    names = [{"id": 0, "name": "red"}, {"id": 1, "name": "green"}]
    return {"images": images, "categories": names, "annotations": annotations}


def detections(truth: dict[str, Any], wrong: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Find every object a little beside its place, a share of them as the wrong class."""
    found = []
    for one in truth["annotations"]:
        box = (np.array(one["bbox"]) + rng.normal(0, 0.7, 4)).tolist()
        kind = one["category_id"] if rng.random() > wrong else 1 - one["category_id"]
        found.append(
            {"image_id": one["image_id"], "category_id": kind, "bbox": box, "score": float(rng.uniform(0.3, 1))}
        )
    return found


@pytest.fixture
def made_study(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Study]:
    """Return a function that makes a finished study without training: each arm gets a share of wrong classes."""

    def make(wrong: dict[str, float], seeds: int = 4, recorded: int = 0, epochs: int = 6, **keys: Any) -> Study:
        data = beacons(tmp_path / "data", train=1, val=60)
        arms = [name for name in wrong if "@" in name and not name.startswith("conv")]
        keys = {**TINY, "data": str(data), "arms": arms, "seeds": seeds, "epochs": epochs, **keys}
        study = Study(folder=tmp_path / "study", **keys)
        convs = [
            Arm(n, "attngraft-micro.yaml+plain_conv(width=9)@P3", "control", (n[9:],), "+1.0 %")
            for n in wrong
            if n[:4] == "conv"
        ]
        frozen = FrozenPlan(study.plan, (*study.plan.recipes(), *convs))
        frozen.write(study.store.folder)
        truth = truth_of(data)
        study.store.keep_truth(truth, data.parent / "images" / "val")
        for arm in frozen.arms:
            for seed in range(recorded or seeds):
                record(study.store, Run(arm, seed), frozen, truth, wrong[arm.name], epochs)
        rows = [{**COSTS, "name": arm.name, "latency": _latency(index)} for index, arm in enumerate(frozen.arms)]
        report = {"measurements": rows, "environment": {"device": "a made-up processor", "threads": 1}}
        (study.store.folder / "costs.json").write_text(json.dumps(report))
        return study

    return make


def record(store: Store, run: Run, frozen: FrozenPlan, truth: dict[str, Any], wrong: float, epochs: int) -> None:
    rng = np.random.default_rng([run.seed, len(run.arm.name)])
    found = detections(truth, wrong, rng)
    scored = evaluate(truth, found)
    watch = {
        "weights": ["abcd", 83], "pictures": ["ef01", 1], "batches": [f"{run.seed}"] * epochs, "batch": 8,
        "resumed": [], "nondeterministic": [],
    }  # fmt: skip
    curve = [
        {"epoch": e + 1.0, "metrics/mAP50-95(B)": scored.numbers["AP"] * (e + 1) / epochs * rng.uniform(0.9, 1)}
        for e in range(epochs)
    ]
    made = {
        "device": "a made-up processor",
        "system": "Linux",
        "cores": 2,
        "python": "3.11",
        "versions": {"torch": "2"},
    }
    made_up = Record(
        frozen.hash, run.arm.name, run.arm.model, run.seed, scored.numbers, scored.per_class.tolist(),
        scored.matches.classes.tolist(), error_types(truth, found).costs, curve, 1.0,
        "2026-01-01T00:00:00+00:00", watch, "t", made,
    )  # fmt: skip
    store.save(run, made_up, scored.matches, found)


def _latency(index: int) -> dict[str, float]:
    ratio = 1 + 0.07 * index
    return {"ratio": ratio, "ratio_low": ratio - 0.02, "ratio_high": ratio + 0.02}
