"""``freeze=`` of stock layers does not reach into grafts, whatever its form and wherever they are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from ultralytics import YOLO as StockYOLO
from ultralytics.nn.tasks import DetectionModel

import attngraft
from attngraft._core.errors import OptionError
from attngraft.yolo.freezing import graft_paths, narrowed
from attngraft.yolo.joining import graft_model
from attngraft.yolo.recipe import parse_grafts
from tests.hostkit import TRAIN

Data = Callable[[str], str]

BASE: dict[str, Any] = {
    "nc": 2,
    "backbone": [
        [-1, 1, "Conv", [8, 3, 2]],
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "C2f", [16, True]],
        [-1, 1, "CBAM", []],
    ],
    "head": [[-1, 1, "Conv", [16, 3, 2]], [[4], 1, "Detect", ["nc"]]],
}
GRAFTS = "se@0+eca@2.m.0.cv1+bot(heads=2)@P2+mhsa(heads=2)@4"


def built(grafts: str = GRAFTS) -> nn.Module:
    model = DetectionModel({**BASE, "backbone": [*BASE["backbone"]]}, verbose=False)
    if grafts:
        graft_model(model, parse_grafts(grafts))
    return model


def frozen(model: nn.Module, freeze: Any) -> tuple[set[str], set[str]]:
    """Freeze as the host does: parameters whose name holds one of the names, and norms likewise."""
    layers = freeze if isinstance(freeze, list) else range(freeze) if isinstance(freeze, int) else []
    names = narrowed(model, [f"model.{layer}." for layer in layers] + [".dfl"], freeze)
    parameters = {name for name, _ in model.named_parameters() if any(one in name for one in names)}
    norms = {
        name
        for name, part in model.named_modules()
        if isinstance(part, nn.BatchNorm2d) and any(one in name for one in names)
    }
    return parameters, norms


def stock_names(model: nn.Module, layers: range | list[int]) -> set[str]:
    own = tuple(f"{path}." for path in graft_paths(model))
    first = tuple(f"model.{layer}." for layer in layers)
    return {name for name, _ in model.named_parameters() if name.startswith(first) and not name.startswith(own)}


def test_grafts_are_told_from_the_hosts_own() -> None:
    assert graft_paths(built()) == {
        "model.0.grafts.0": "se",
        "model.2.m.0.cv1.grafts.0": "eca",
        "model.2.m.0.cv2": "mhsa",
        "model.3": "cbam",
        "model.4.grafts.0": "mhsa",
    }
    assert graft_paths(attngraft.YOLO("rtdetr-l.yaml+mhsa(mode=replace)@AIFI").model) == {"model.11.mechanism": "mhsa"}
    assert graft_paths(attngraft.YOLO("yolo11n-botnet50.yaml").model) == {}, "a backbone of ours is no graft"


@pytest.mark.parametrize(
    "freeze", [3, [0, 1, 2], 4, (0, 1, 2), range(3), {0, 1, 2}, "0,1,2", "[0, 1, 2]", "3"], ids=str
)
def test_stock_layers_freeze_and_their_grafts_do_not(freeze: Any) -> None:
    model = built()
    parameters, norms = frozen(model, freeze)
    dfl = {name for name, _ in model.named_parameters() if ".dfl" in name}
    assert parameters == stock_names(model, range(3)) | dfl
    assert norms == {"model.0.bn", "model.1.bn", "model.2.cv1.bn", "model.2.cv2.bn", "model.2.m.0.cv1.bn"}
    without, their_norms = frozen(built(""), 3)
    assert {name for name in without if ".m.0.cv2." not in name} == parameters
    assert {name for name in their_norms if ".m.0.cv2." not in name} == norms


@pytest.mark.parametrize(
    ("freeze", "graft"),
    [
        (["0.grafts"], "model.0.grafts.0."),
        (["0.grafts.0"], "model.0.grafts.0."),
        ([0, "0.grafts.0"], "model.0.grafts.0."),
        (["cbam"], "model.3."),
        ("cbam", "model.3."),
        ("se", "model.0.grafts.0."),
        (["SE"], "model.0.grafts.0."),
        ("SEAttention", "model.0.grafts.0."),
        ([3], "model.3."),
        (["2.m.0.cv2"], "model.2.m.0.cv2."),
        (["bot"], "model.2.m.0.cv2."),
        (["2.m.0.cv1.grafts"], "model.2.m.0.cv1.grafts.0."),
    ],
    ids=str,
)
def test_a_graft_that_is_named_freezes(freeze: Any, graft: str) -> None:
    model = built()
    parameters, _ = frozen(model, freeze)
    assert {name for name, _ in model.named_parameters() if name.startswith(graft)} <= parameters
    others = {f"{path}." for path in graft_paths(model)} - {graft}
    assert not {name for name in parameters if name.startswith(tuple(others))}


def test_a_parametrised_mechanism_freezes_by_its_name() -> None:
    model = DetectionModel({**BASE, "head": [[-1, 1, "GRN", []], [[4], 1, "Detect", ["nc"]]]}, verbose=False)
    graft_model(model, parse_grafts("grn@0"))
    paths = ["model.4", "model.0.grafts.0"]
    for part in (model.get_submodule(paths[0]), model.get_submodule(f"{paths[1]}.mechanism")):
        weight_norm(part, "scale", dim=None)
    assert graft_paths(model) == dict.fromkeys(paths, "grn") | {"model.3": "cbam"}
    parameters, _ = frozen(model, ["GRN"])
    assert parameters == {n for n, _ in model.named_parameters() if n.startswith((*paths,)) or ".dfl" in n}
    assert sum("parametrizations" in name for name in parameters) == 4


@pytest.mark.parametrize("freeze", [3.0, True, {"layer": 3}, b"3"], ids=str)
def test_what_names_no_layers_is_refused(freeze: Any) -> None:
    with pytest.raises(OptionError, match=r"^freeze needs to be a number of layers.* such as \[0,1,2\], got "):
        frozen(built(), freeze)


def test_nothing_freezes_without_the_option() -> None:
    assert frozen(built(""), None)[0] == frozen(built(""), 0)[0] == frozen(built(""), ())[0]


@pytest.mark.parametrize("freeze", [[0, 1, 2], (0, 1, 2), range(3), {0, 1, 2}, "0,1,2", 3, "3"], ids=str)
def test_a_training_freezes_as_many_parameters_in_every_form(freeze: Any, tiny_data: Data) -> None:
    model = attngraft.YOLO("attngraft-micro.yaml+se@1")
    counts = []

    def stop(trainer: Any) -> None:
        counts.append({name for name, part in trainer.model.named_parameters() if not part.requires_grad})
        raise KeyboardInterrupt

    model.add_callback("on_train_start", stop)
    with pytest.raises(KeyboardInterrupt):
        model.train(data=tiny_data("detect"), project=str(Path.cwd()), name="run", freeze=freeze, **TRAIN)
    assert counts == [stock_names(model.model, range(3)) | {"model.4.dfl.conv.weight"}]


def test_all_grafts_freeze_by_one_word_and_a_wrong_word_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("ultralytics").propagate = True
    model = built()
    parameters, norms = frozen(model, "grafts")
    assert parameters > {"model.0.grafts.0.gamma", "model.2.m.0.cv2.norm.weight", "model.3.gate.weight"} - {
        "model.3.gate.weight"
    }
    assert "model.2.m.0.cv2.norm" in norms
    frozen(model, "sea")
    assert "freeze names 'sea', and this model has no layer, path or graft of that name" in caplog.text
    caplog.clear()
    frozen(model, 99)
    assert "freeze names '6', '7', '8' and 90 more, and this model has no layer" in caplog.text


def test_one_line_says_that_grafts_train(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("ultralytics").propagate = True
    caplog.set_level(logging.INFO, logger="ultralytics")
    frozen(built("se@0"), 2)
    assert (
        "attngraft: freeze=2 covers layers with grafts, and the grafts train: 0.grafts.0; "
        "to freeze one too, name it: freeze=[0,...,0.grafts.0]" in caplog.text
    )
    caplog.clear()
    frozen(built("se@4"), 2)
    assert "freeze" not in caplog.text


def test_a_resumed_distillation_spares_grafts_as_its_start_did(caplog: pytest.LogCaptureFixture) -> None:
    """The checkpoint of one holds student and teacher under names of their own, and is frozen again when resumed."""
    both = nn.ModuleDict({"teacher_model": built(), "student_model": built()})
    with caplog.at_level(logging.INFO, logger="ultralytics"):
        parameters, norms = frozen(both, 3)
    alone = frozen(built(), 3)
    for found, expected in ((parameters, alone[0]), (norms, alone[1])):
        student = {name.removeprefix("student_model.") for name in found if name.startswith("student_model.")}
        assert student == expected
    assert "the grafts train: 0.grafts.0, 2.m.0.cv1.grafts.0, 2.m.0.cv2;" in caplog.text


def test_a_frozen_backbone_trains_its_grafts_and_their_norms_alone_also_resumed(tiny_data: Data) -> None:
    model = attngraft.YOLO("attngraft-micro.yaml+se@P3+eca@1")
    before = {key: value.clone() for key, value in model.model.state_dict().items()}

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    model.add_callback("on_train_epoch_start", stop)
    with pytest.raises(KeyboardInterrupt):
        model.train(data=tiny_data("detect"), project=str(Path.cwd()), name="run", freeze=4, **{**TRAIN, "epochs": 2})
    resumed = StockYOLO("run/weights/last.pt")
    gates = {key: value.clone() for key, value in resumed.model.state_dict().items() if key.endswith("gamma")}
    resumed.train(resume=True)
    after = resumed.trainer.model.state_dict()
    assert len(gates) == 2
    assert all(value.abs().max() > 0 and not torch.equal(value.float(), after[key]) for key, value in gates.items())
    backbone = [
        key for key in before if key.startswith(tuple(f"model.{i}." for i in range(4))) and ".grafts." not in key
    ]
    stock = StockYOLO("attngraft-micro.yaml").model.state_dict()
    assert set(backbone) <= set(stock)
    moved = [key for key in backbone if key.endswith("running_mean") and after[key].any()]
    assert not moved, "norms of frozen layers keep their statistics"
