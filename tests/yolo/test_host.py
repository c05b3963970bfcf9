"""What other rooms ask of Ultralytics."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from attngraft.yolo import YOLO, host


def test_keys_are_those_of_the_verb_and_of_every_run() -> None:
    assert {"epochs", "trainer", "imgsz"} <= set(host.known_keys("train"))
    assert {"source", "persist", "tracker"} <= set(host.known_keys("track"))
    assert not {"self", "args", "kwargs"} & set(host.known_keys("predict"))


@pytest.mark.parametrize(
    ("pair", "value"), [("epochs=3", 3), ("lr0=0.5", 0.5), ("amp=false", False), ("classes=[0,1]", [0, 1])]
)
def test_values_are_read_as_the_stock_command_reads_them(pair: str, value: object) -> None:
    assert host.parse_pair(pair) == (pair.partition("=")[0], value)


def test_a_data_file_is_read_without_a_download(tiny_data: Callable[[str], str]) -> None:
    assert host.read_data(tiny_data("detect"))["nc"] == 2
    with pytest.raises(FileNotFoundError):
        host.read_data("nowhere.yaml")


def test_the_averaged_copy_follows_the_model() -> None:
    model = torch.nn.Linear(1, 1)
    copy = host.averaged_copy(model)
    before = copy.ema.weight.clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    copy.update(model)
    moved = (copy.ema.weight - before).item()
    assert 0 < moved < 1


def test_the_own_profiler_counts_a_stock_model() -> None:
    assert host.profiled_flops(YOLO("attngraft-micro.yaml").model, 64) > 1e6


def test_a_worker_script_trains_the_model_that_it_names(tiny_data: Callable[[str], str]) -> None:
    opened = YOLO("attngraft-micro.yaml+se@P3")
    trainer = host.trainer(opened, {"data": tiny_data("detect"), "device": "cpu", "imgsz": 64})
    assert any(".grafts." in key for key in trainer.model.state_dict())
    with host.worker_script(trainer) as script:
        assert script.is_file()
    assert not script.exists()
