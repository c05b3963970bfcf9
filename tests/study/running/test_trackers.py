"""What W&B, MLflow and TensorBoard call the runs of a study, read from what the packages themselves wrote offline."""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from attngraft.study.running.records import Run, Store
from attngraft.study.running.run import command, environment, tracked
from tests.study.running.test_run import fix

needs = {
    name: pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"needs {pip}: pip install {pip}")
    for name, pip in (("wandb", "wandb"), ("mlflow", "mlflow-skinny"))
}


def perform(folder: Path, data: str, tracker: str, own: dict[str, str]) -> Store:
    """Carry a run out in a process as a study does, with one of Ultralytics' loggers on."""
    settings = folder.parent / "settings"
    settings.mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "WANDB", "MLFLOW"))}
    base = {**clean, "YOLO_CONFIG_DIR": str(settings), "WANDB_MODE": "offline", "WANDB_SILENT": "true", **own}
    switch = f"from ultralytics import settings; settings.update({{'{tracker}': True}})"
    subprocess.run([sys.executable, "-c", switch], env=base, check=True, capture_output=True)
    fixed, store = fix(folder, data), Store(folder)
    run = Run(fixed.arm("eca@P3"), 0)
    names = {key: value for key, value in tracked(store, run).items() if key not in own}
    words = command(folder, run)[:-1]  # no parent to end with
    own_keys = {key: value for key, value in environment(folder).items() if key not in os.environ}
    done = subprocess.run(words, env={**base, **own_keys, **names}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert store.has(run)
    return store


def offline_run(training: Path) -> Any:
    """Read the run that W&B wrote in offline mode: a log of LevelDB's form, whose records are protocol buffers."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = training.glob("wandb/offline-run-*/run-*.wandb")
    for data in log_records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        if record.HasField("run"):
            return record.run
    raise AssertionError(f"{file} has no run")


def log_records(content: bytes, block: int = 1 << 15, head: int = 7) -> Iterator[bytes]:
    """Yield the records of a LevelDB log behind W&B's seven bytes: checksum, length and kind go before each part."""
    at, data = head, b""
    while at + head <= len(content):
        if block - at % block < head:  # the rest of a block is padding
            at += block - at % block
        _, length, kind = struct.unpack_from("<IHB", content, at)
        data += content[at + head : at + head + length]
        at += head + length
        if kind in (1, 4):  # whole, or the last part
            yield data
            data = b""


@needs["wandb"]
@pytest.mark.parametrize("own", [{}, {"WANDB_PROJECT": "fruit", "WANDB_NAME": "mine"}], ids=["study's", "user's"])
def test_wandb_knows_study_arm_and_seed(own: dict[str, str], tiny_data: str, tmp_path: Path) -> None:
    store = perform(tmp_path / "citrus", tiny_data, "wandb", own)
    found = offline_run(store.folder / "runs" / "eca@P3" / "s0")
    assert found.run_group == "citrus"
    assert list(found.tags) == ["citrus", "eca@P3", "seed 0"]
    assert found.project == own.get("WANDB_PROJECT", "attngraft")
    assert found.display_name == own.get("WANDB_NAME", "eca@P3, seed 0")


@needs["mlflow"]
def test_mlflow_knows_study_arm_and_seed(tiny_data: str, tmp_path: Path) -> None:
    where = {"MLFLOW_TRACKING_URI": (tmp_path / "mlflow").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    perform(tmp_path / "citrus", tiny_data, "mlflow", where)
    read = (
        "import json, mlflow\n"
        "(run,) = mlflow.search_runs(experiment_names=['citrus'], output_format='list')\n"
        "print(json.dumps([run.info.run_name, run.info.status]))"
    )
    done = subprocess.run([sys.executable, "-c", read], env={**os.environ, **where}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["eca@P3, seed 0", "FINISHED"]


def test_tensorboard_and_checkpoints_go_by_the_folder_of_arm_and_seed(tiny_data: str, tmp_path: Path) -> None:
    store = perform(tmp_path / "citrus", tiny_data, "tensorboard", {})
    training = store.folder / "runs" / "eca@P3" / "s0"
    assert list(training.glob("events.out.tfevents.*"))
    arguments = torch.load(training / "weights" / "last.pt", map_location="cpu", weights_only=False)["train_args"]
    assert (arguments["project"], arguments["name"]) == (str(training.parent), "s0")
