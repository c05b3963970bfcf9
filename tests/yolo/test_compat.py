"""The joint with Ultralytics: versions, import orders, hook points."""

from __future__ import annotations

import importlib
import logging
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import ultralytics.nn.tasks  # noqa: F401  # loaded by what it joins itself, the joint would meet itself half made

import attngraft
from attngraft._core.errors import HostError
from attngraft.yolo import _compat
from tests.hostkit import TRAIN


@pytest.mark.parametrize("version", ["8.4.66", "8.3.253", "7.0", "8.3"])
def test_a_release_that_is_too_old_is_refused_in_one_sentence(version: str) -> None:
    with pytest.raises(HostError, match=rf"ultralytics 8.4.67 and newer, and found {version}; run: pip install"):
        _compat.check_version(version)


@pytest.mark.parametrize(
    ("version", "warns"),
    [("8.4.67", True), ("8.4.149", True), ("8.4.150", False), ("8.4.190", False), ("8.5.0", True), ("9.0.1", True)],
)
def test_a_release_beyond_the_tested_ones_runs_with_a_warning(
    version: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("ultralytics").propagate = True
    _compat.check_version(version)
    assert (f"was tested with ultralytics 8.4.150 to 8.4.190, and this is {version}" in caplog.text) is warns


def test_a_changed_hook_point_is_named() -> None:
    changed = types.SimpleNamespace(parse_model=lambda spec: None, yaml_model_load=lambda path: None)
    with pytest.raises(HostError, match=r"parse_model\['spec'\].*relies on parse_model\['d', 'ch', 'verbose'\]"):
        _compat.check_hooks(changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "imports",
    [
        "import attngraft, ultralytics",
        "import ultralytics; import attngraft",
        "from ultralytics import YOLO; import attngraft",
        "import attngraft; from ultralytics.models.yolo.detect import DetectionTrainer",
        "import attngraft.attention; from ultralytics import YOLO",
        "import attngraft; from ultralytics.engine.trainer import BaseTrainer",
        "from ultralytics.engine.trainer import BaseTrainer; import attngraft",
        "import attngraft; from ultralytics.nn.modules import Conv",
    ],
)
def test_any_import_order_joins_the_two(imports: str, fresh: Any) -> None:
    code = f"{imports}; from ultralytics import YOLO; print(*YOLO('yolo11n-mhsa.yaml').model.state_dict())"
    code += "; from ultralytics.engine.trainer import BaseTrainer; print('freeze_layer_names' in vars(BaseTrainer))"
    said = fresh(code)
    assert "model.10.grafts.0.gamma" in said
    assert said.split()[-1] == "True"  # so that freeze= spares grafts


def test_importing_us_loads_neither_torch_nor_the_host(fresh: Any) -> None:
    assert fresh("import sys, attngraft; print({'torch', 'ultralytics'} & set(sys.modules))").strip() == "set()"


def test_the_hosts_printouts_count_what_is_dispatched(tiny_data: Any, fresh: Any) -> None:
    recipe, side = "attngraft-micro.yaml+mhsa(heads=4)@P3", 160
    stock, grafted = (attngraft.YOLO(r).info(imgsz=side)[3] for r in ("attngraft-micro.yaml", recipe))
    mechanism = attngraft.YOLO(recipe).model.model[3].grafts[0].mechanism
    assert grafted - stock == pytest.approx(2 * mechanism.macs(side // 8, side // 8) / 1e9, rel=1e-6)
    assert attngraft.YOLO(recipe).info(imgsz=[96, 64])[3] < grafted

    options = {**TRAIN, "data": tiny_data("detect"), "verbose": True, "project": str(Path.cwd()), "name": "run"}
    said = fresh(f"import attngraft; attngraft.YOLO({recipe!r}).train(**{options!r})")
    trained = attngraft.YOLO("run/weights/last.pt").info()[3]
    assert f"gradients, {trained:.1f} GFLOPs" in said


def test_a_model_that_takes_more_than_a_picture_is_left_to_the_host() -> None:
    from ultralytics.utils.torch_utils import get_flops

    assert get_flops(torch.nn.Bilinear(2, 2, 2), 32) == 0.0


def test_a_graft_takes_nothing_of_one_of_another_mechanism(caplog: pytest.LogCaptureFixture) -> None:
    trained = attngraft.YOLO("attngraft-micro.yaml+ema@P3").model
    torch.nn.init.ones_(trained.model[3].grafts[0].gamma)
    other = attngraft.YOLO("attngraft-micro.yaml+se@P3").model
    drawn = {name: value.clone() for name, value in other.state_dict().items() if "grafts" in name}
    other.load(trained, verbose=False)
    assert all(torch.equal(other.state_dict()[name], value) for name, value in drawn.items())
    assert torch.equal(other.model[0].conv.weight, trained.model[0].conv.weight)
    assert "another mechanism at model.3.grafts.0; this model's starts as it was built" in caplog.text
    same = attngraft.YOLO("attngraft-micro.yaml+ema@P3").model
    same.load(trained, verbose=False)
    assert torch.equal(same.model[3].grafts[0].gamma, trained.model[3].grafts[0].gamma)
    trained.model[3].grafts[0].mechanism.__class__ = type("EMA", (torch.nn.Module,), {})  # a file read again
    anew = attngraft.YOLO("attngraft-micro.yaml+ema@P3").model
    anew.load(trained, verbose=False)
    assert torch.equal(anew.model[3].grafts[0].gamma, trained.model[3].grafts[0].gamma)


@pytest.mark.parametrize(
    ("base", "trainer"),
    [
        ("yolov8s-worldv2.yaml", "world.WorldTrainer"),
        ("yoloe-11s.yaml", "yoloe.YOLOETrainer"),
        ("yoloe-11s.yaml", "yoloe.YOLOEPETrainer"),
        ("yoloe-11s-seg.yaml", "yoloe.YOLOESegTrainer"),
        ("yoloe-11s-seg.yaml", "yoloe.YOLOEPESegTrainer"),
    ],
)
def test_trainers_that_rebuild_from_the_yaml_file_keep_grafts(
    base: str, trainer: str, tiny_data: Any, tmp_path: Path
) -> None:
    """A run needs a text encoder, which no network is here to download; it starts with this rebuild."""
    model = attngraft.YOLO(f"{base}+eca@P3+mhsa@P5").model
    if trainer.startswith("yoloe"):  # linear probing takes a head whose texts are part of it, or encodes them
        model.set_classes(["blue", "red"], torch.randn(1, 2, 512))
        if "PE" in trainer:
            model.model[-1].fuse(model.pe)
    grafts = {name: value for name, value in model.state_dict().items() if ".grafts." in name}
    for value in grafts.values():
        value.normal_()

    home, name = trainer.split(".")
    cls = getattr(importlib.import_module(f"ultralytics.models.yolo.{home}"), name)
    task = "segment" if "-seg" in base else "detect"
    options = {"model": base, "task": task, "data": tiny_data(task), "device": "cpu", "project": str(tmp_path)}
    made = cls(overrides=options)
    rebuilt = made.get_model(cfg=model.yaml, weights=model, verbose=False).state_dict()

    assert len(grafts) == 6  # two gammas, the kernel of ECA, and what MHSA projects and its two tables
    assert {name for name in rebuilt if ".grafts." in name} == set(grafts)
    assert all(rebuilt[name].equal(value) for name, value in grafts.items())
