"""A training step outside a training: of every task, on the device that is named."""

from __future__ import annotations

import pytest
import torch

from attngraft._core.errors import OptionError
from attngraft.yolo import YOLO
from attngraft.yolo.devices import devices, one_device
from attngraft.yolo.imgsz import largest_stride
from attngraft.yolo.step import TrainingLoss, step

MODELS = (
    "attngraft-micro.yaml", "yolo11n-seg.yaml", "yolo26n-pose.yaml", "yolo11n-obb.yaml", "yolo11n-cls.yaml",
    "yolo26n-sem.yaml", "yolo26n-depth.yaml", "yolov10n.yaml",
)  # fmt: skip


@pytest.mark.parametrize("recipe", MODELS)
def test_the_loss_of_every_task_reaches_the_stem(recipe: str) -> None:
    model = YOLO(recipe).model
    loss = TrainingLoss(model, 2, (64, 96), {})
    loss.step(torch.rand(2, 3, 64, 96))()
    gradient = next(model.parameters()).grad
    assert gradient.isfinite().all()
    assert gradient.any()


def test_a_step_runs_where_the_options_say() -> None:
    step("attngraft-micro.yaml", {"batch": 1, "imgsz": 64, "device": "cpu"})()
    if torch.cuda.is_available():
        step("attngraft-micro.yaml", {"batch": 1, "imgsz": 64, "device": "0"})()
        return
    with pytest.raises(OptionError, match=r"a training step was asked for a CUDA device \(cuda:0\), and PyTorch"):
        step("attngraft-micro.yaml", {"batch": 1, "imgsz": 64, "device": 0})


def test_devices_are_the_hosts_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    said = {"cpu": ["cpu"], 1: ["cuda:1"], "0,1": ["cuda:0", "cuda:1"], (0, 1): ["cuda:0", "cuda:1"], "cuda": ["cuda"]}
    for word, expected in {**said, None: ["cuda:0"], "": ["cuda:0"], "cuda:1": ["cuda:1"]}.items():
        assert [str(device) for device in devices("a test", word)] == expected
    with pytest.raises(OptionError, match="a test was asked for cuda:2, and the last one here is cuda:1"):
        devices("a test", "0,2")
    with pytest.raises(OptionError, match="a test runs on one device, got device='0,1'"):
        one_device("a test", "0,1")
    with pytest.raises(OptionError, match="a test takes device=cpu, a number such as 0, cuda:0 or mps, got 'gpu'"):
        devices("a test", "gpu")
    with pytest.raises(OptionError, match="device=meta, and PyTorch finds none here"):
        devices("a test", "meta")


@pytest.mark.parametrize(
    ("recipe", "stride"), [("yolov8n-p6.yaml", 64), ("yolo11n-cls.yaml", 32), ("yolo11n.yaml", 32)]
)
def test_the_largest_stride_is_the_models_own(recipe: str, stride: int) -> None:
    assert largest_stride(YOLO(recipe).model) == stride
    assert largest_stride(torch.nn.Identity()) == 32
