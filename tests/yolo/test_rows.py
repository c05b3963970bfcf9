"""The blog way: rows of a model YAML that name our mechanisms."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ultralytics import YOLO as StockYOLO
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

import attngraft
from attngraft._core.errors import OptionError
from attngraft.yolo.rows import GUARD


def with_row(row: list[Any], base: str = "yolo11n.yaml") -> dict[str, Any]:
    """Insert a row after the backbone and shift every later index, as the posts tell their readers to."""
    description = copy.deepcopy(yaml_model_load(base))
    cut = len(description["backbone"])

    def shift(source: int | list[int]) -> int | list[int]:
        if isinstance(source, list):
            return [shift(s) for s in source]  # type: ignore[misc]
        return source + 1 if source >= cut else source

    description["backbone"].append(row)
    description["head"] = [[shift(f), n, m, a] for f, n, m, a in description["head"]]
    # The neck reads the new row where it read the backbone's last layer.
    description["head"] = [
        [[cut if s == cut - 1 else s for s in f] if isinstance(f, list) else f, n, m, a]
        for f, n, m, a in description["head"]
    ]
    return description


@pytest.mark.parametrize("arguments", [[], [14, 14, 4], [1024, 14, 14, 4], [256], [{"heads": 4}]], ids=str)
def test_a_row_builds_with_the_arguments_that_circulate(arguments: list[Any]) -> None:
    model = DetectionModel(with_row([-1, 1, "MHSA", arguments]), verbose=False)
    layer = model.model[11]
    assert type(layer).__name__ == "MHSA"
    assert (layer.channels, layer.heads) == (256, 4)
    assert layer.np == sum(p.numel() for p in layer.parameters()) > 0
    for size in ((64, 64), (96, 160)):
        model.eval()(torch.rand(1, 3, *size))


@pytest.mark.parametrize("row", [["SE", [16]], ["SE", [1024, 16]], ["ECA", []], ["ECA", [256]]], ids=str)
def test_other_mechanisms_build_from_rows(row: list[Any]) -> None:
    layer = DetectionModel(with_row([-1, 1, *row]), verbose=False).model[11]
    assert type(layer).__name__ == row[0]
    assert layer.channels == 256


def test_a_yaml_file_with_a_row_trains_in_name_only_when_we_are_there(fresh: Any) -> None:
    Path("yolo11n-blog.yaml").write_text(yaml.safe_dump(with_row([-1, 1, "MHSA", [14, 14, 4]])))
    code = (
        "import sys; {} from ultralytics import YOLO; print(type(YOLO('yolo11n-blog.yaml').model.model[11]).__name__)"
    )
    assert fresh(code.format("import attngraft;")).strip().endswith("MHSA")
    with pytest.raises(AssertionError, match="KeyError: 'MHSA'"):
        fresh(code.format(""))


CIRCULATED = """
import copy, sys, torch
from torch import nn
import ultralytics.nn.modules.block as block
from ultralytics.nn import tasks

class MHSA(nn.Module):  # as it stands in pasted copies of block.py: fixed map, transposed position term, no scale
    def __init__(self, n_dims, width=14, height=14, heads=4, pos_emb=True):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Conv2d(n_dims, n_dims, 1) for _ in range(3))
        self.pos = pos_emb
        self.rel_h_weight = nn.Parameter(torch.randn(1, heads, n_dims // heads, 1, height))
        self.rel_w_weight = nn.Parameter(torch.randn(1, heads, n_dims // heads, width, 1))
        self.softmax = nn.Softmax(dim=-1)
    def forward(self, x):
        B, C, W, H = x.shape
        q, k, v = (conv(x).view(B, self.heads, C // self.heads, W * H) for conv in (self.query, self.key, self.value))
        place = (self.rel_h_weight + self.rel_w_weight).view(1, self.heads, C // self.heads, -1)
        weights = self.softmax(q.transpose(2, 3) @ k + place.transpose(2, 3) @ q)
        return (v @ weights.transpose(2, 3)).view(B, C, W, H)

MHSA.__module__, MHSA.__qualname__ = block.__name__, "MHSA"
block.MHSA = tasks.MHSA = MHSA
model = tasks.DetectionModel("yolov8n.yaml", verbose=False)
host = model.model[9]
attention = MHSA(256, 6, 4)
attention.i, attention.f, attention.type, attention.np = 9, -1, "ultralytics.nn.modules.block.MHSA", 0
model.model[9] = attention  # where a pasted YAML has it: a layer of its own
picture = torch.rand(1, 3, 128, 192)
with torch.no_grad():
    torch.save((picture, model.eval()(picture)[0]), "answer.pt")
torch.save({"model": model, "train_args": {"task": "detect"}, "epoch": -1}, "blog.pt")
"""


def test_a_checkpoint_trained_with_the_circulated_class_gives_its_numbers(fresh: Any) -> None:
    fresh(CIRCULATED)
    picture, answer = torch.load("answer.pt")
    model = attngraft.YOLO("blog.pt").model.eval()
    assert type(model.model[9]) is attngraft.info("mhsa").cls
    with torch.no_grad():
        torch.testing.assert_close(model(picture)[0], answer, atol=1e-4, rtol=1e-4)
    model(torch.rand(1, 3, 160, 160))  # a size at which the circulated class crashes


def test_the_guard_row_grafts_in_place_and_is_loud_without_us(fresh: Any) -> None:
    description = copy.deepcopy(yaml_model_load("yolo11n.yaml"))
    description["head"].insert(0, [-1, 1, GUARD, ["mhsa@P5"]])
    Path("yolo11n-guard.yaml").write_text(yaml.safe_dump(description))
    model = attngraft.YOLO("yolo11n-guard.yaml").model
    assert len(model.model) == 24
    assert "model.10.grafts.0.gamma" in model.state_dict()
    with pytest.raises(AssertionError, match="KeyError: 'Attngraft'"):
        fresh("from ultralytics import YOLO; YOLO('yolo11n-guard.yaml')")


def test_rows_that_cannot_be_read_say_what_they_take() -> None:
    with pytest.raises(OptionError, match=r"row of SE takes \[reduction\], got \[8, 3, 5\]"):
        DetectionModel(with_row([-1, 1, "SE", [8, 3, 5]]), verbose=False)
    with pytest.raises(OptionError, match="no option width; there are: reduction"):
        DetectionModel(with_row([-1, 1, "SE", [{"width": 3}]]), verbose=False)
    with pytest.raises(OptionError, match="reads one layer"):
        DetectionModel(with_row([[-1, 4], 1, "SE", []]), verbose=False)


def test_a_name_that_the_host_has_keeps_the_hosts_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.nn import tasks

    monkeypatch.setattr(tasks, "SE", torch.nn.Identity, raising=False)
    assert type(DetectionModel(with_row([-1, 1, "SE", []]), verbose=False).model[11]).__name__ == "Identity"
    assert type(DetectionModel(with_row([-1, 1, "attngraft.SE", []]), verbose=False).model[11]).__name__ == "SE"


@pytest.mark.parametrize("family", ["yolo11", "yolov8", "yolov10"])
@pytest.mark.parametrize("task", ["", "-seg"])
@pytest.mark.parametrize("scale", ["n", "s"])
def test_our_yamls_are_found_by_name(family: str, task: str, scale: str) -> None:
    name = f"{family}{scale}-mhsa{task}.yaml"
    model = StockYOLO(name)
    assert model.task == ("segment" if task else "detect")
    assert any(type(m).__name__ == "MHSA" for m in model.model.modules())
    assert model.model.yaml["scale"] == scale
    stock = StockYOLO(f"{family}{scale}{'' if family == 'yolov10' else task}.yaml")
    if not (family == "yolov10" and task):
        assert set(stock.model.state_dict()) < set(model.model.state_dict())


def test_a_users_own_file_may_name_a_base() -> None:
    Path("yolov8n-mine.yaml").write_text("base: yolov8.yaml\ngrafts: se(reduction=4)@P3,P4\nnc: 7\n")
    model = attngraft.YOLO("yolov8n-mine.yaml").model
    assert model.yaml["nc"] == 7
    assert model.model[4].grafts[0].mechanism.reduction == 4


def test_inserting_a_row_loses_what_a_graft_keeps() -> None:
    """The figures of the README: tensors whose key and shape survive, out of 499."""
    stock = DetectionModel("yolo11n.yaml", verbose=False).state_dict()

    def kept(model: torch.nn.Module) -> int:
        return sum(key in stock and stock[key].shape == value.shape for key, value in model.state_dict().items())

    inserted = with_row([-1, 1, "MHSA", []])
    grafted = {**copy.deepcopy(yaml_model_load("yolo11n.yaml")), "attngraft": "mhsa@P5"}
    assert kept(DetectionModel(grafted, verbose=False)) == len(stock) == 499
    assert kept(DetectionModel(inserted, verbose=False)) == 240
