"""The options: presets, what is filled in, what is refused, and their file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from attngraft._core.errors import CheckpointError, FitError, UnknownNameError
from attngraft.fit import Options
from attngraft.fit.options import schema

BASE = {"model": "tiny_classifier", "data": "flowers"}


def of(**changes: Any) -> Options:
    return Options.of({**BASE, **changes})


def test_options_of_the_network_may_be_nested() -> None:
    options = of(**{"model.width": 8, "model.body_options.width": 16, "model.body_options.se": "all"})
    assert options.model_options == {"width": 8, "body_options": {"width": 16, "se": "all"}}
    with pytest.raises(FitError, match=r"model\.width\.deep stands inside width, which is 8 and no mapping"):
        of(**{"model.width": 8, "model.width.deep": 1})


def test_they_survive_their_file(tmp_path: Path) -> None:
    options = of(model="tiny_detector", jitter=[0.5, 2], devices=(0, 1), lr=1, **{"model.min_size": 40})
    options.save(tmp_path)
    assert Options.load(tmp_path) == options
    assert options.jitter == (0.5, 2)
    (tmp_path / "fit.yaml").write_text("[1, 2")
    with pytest.raises(CheckpointError, match="fit.yaml is not valid YAML"):
        Options.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "fit has no option 'epoch'; did you mean epochs?"),
        ({"learning_rate": 3}, "fit has no option 'learning_rate'; did you mean lr?"),
        ({"seed": 2**32}, r"seed needs to be an integer from 0 to below 2\*\*32, got 4294967296"),
        ({"model": "may"}, "may is a YOLO, and fit trains the networks of the papers; use: attngraft train model=may$"),
        ({"model": "yolo11n"}, "yolo11n is a YOLO, and fit .*; use: attngraft train model=yolo11n$"),
        ({"model": "yolo11n.pt+mhsa@P5"}, "attngraft train model=yolo11n.pt.mhsa@P5$"),
        (
            {"model": "botnet50", "task": "detect"},
            "botnet50 is .* task given is 'detect'; take model=fasterrcnn_botnet50",
        ),
        ({"model": "botnet50", "task": "segment"}, "take model=maskrcnn_botnet50$"),
        ({"epochs": 0}, "epochs needs to be a positive integer, got 0"),
        ({"batch": 2.5}, "batch needs to be a positive integer, got 2.5"),
        ({"batch": "many"}, "batch needs to be a positive integer, got 'many'"),
        ({"lr": 0}, "lr needs to be a number above 0"),
        ({"lr": "fast"}, "lr needs to be a number above 0, got 'fast'"),
        ({"ema": 1.0}, "ema needs to be a number from 0 to below 1, got 1.0"),
        ({"model": "tiny_detector", "jitter": (2, 1)}, "jitter needs to be two numbers above 0, the smaller first"),
        ({"model": "tiny_detector", "jitter": 1.5}, "jitter needs to be two numbers"),
        ({"crop": 0}, "crop needs to be a number above 0 and up to 1"),
        ({"flip": 1}, "flip needs to be True or False, got 1"),
        ({"lr": 10**400}, "lr needs to be a number above 0"),
        ({"lr": float("inf")}, "lr needs to be a number above 0, got inf"),
        ({"epochs": True}, "epochs needs to be a positive integer, got True"),
        ({"clip": -1}, "clip needs to be a number of 0 or more"),
        ({"workers": -1}, "workers needs to be an integer of 0 or more, got -1"),
        ({"devices": 1.5}, "devices needs to be a number of devices, their numbers, or auto, got 1.5"),
        ({"model_options": 5}, "model_options needs to be a mapping, got 5"),
        (
            {"optimizer": "sgd", "beta2": 0.9},
            "beta2 is no option of optimizer=sgd; leave it out, or take adam or adamw",
        ),
        ({"optimizer": "lion"}, "optimizer needs to be one of sgd, adam, adamw, got 'lion'"),
        ({"preset": "large"}, "preset needs to be one of small, paper, got 'large'"),
        (
            {"task": "detect"},
            "tiny_classifier is a network to classify, and the task given is 'detect'; leave task out",
        ),
        ({"task": "dance"}, "task needs to be one of classify, detect, segment, superres, got 'dance'"),
        ({"batch": 10, "accumulate": 4}, "batch=10 cannot be cut into accumulate=4 equal parts"),
        ({"epochs": 2, "val_every": 3}, "val_every=3 is more than epochs=2"),
        ({"data": ""}, "fit needs data, as in"),
    ],
)
def test_what_cannot_work_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FitError, match=message):
        of(**changes)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        *(("tiny_detector", {key: value}) for key, value in {"randaugment": 5, "label_smoothing": 0.1}.items()),
        *(("tiny_segmenter", {key: value}) for key, value in {"crop": 0.5, "scale": 2}.items()),
        *(("tiny_classifier", {key: "x"}) for key in ("val", "images", "jitter", "scale")),
        ("tiny_enlarger", {"jitter": (0.5, 2)}),
    ],
)
def test_an_option_of_another_task_is_refused(model: str, changes: dict[str, Any]) -> None:
    with pytest.raises(FitError, match=f"{next(iter(changes))} is an option of .*, and this is to .*; leave it out"):
        of(model=model, **changes)
    with pytest.raises(FitError, match="is an option of"):
        of(model=model).changed(changes)


def test_only_the_options_of_the_task_are_written_and_older_files_are_read() -> None:
    plain = of().plain()
    assert {"crop", "randaugment"} < plain.keys()
    assert not {"scale", "jitter", "val", "images"} & plain.keys()
    assert Options.stored({**plain, "scale": 2, "jitter": [1.0, 1.0], "val": None}) == of()


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UnknownNameError, match="no model is called 'tiny_clasifier'; did you mean tiny_classifier"):
        of(model="tiny_clasifier")


def test_an_optimizers_own_options_are_written_and_older_files_are_read() -> None:
    options = of(optimizer="sgd")
    assert "beta2" not in options.plain()
    assert Options.stored({**options.plain(), "beta2": 0.999}) == options
    with pytest.raises(FitError, match="beta2 is no option of optimizer=sgd"):
        options.changed({"beta2": 0.9})
    assert of(optimizer="adam", beta2=0.9).plain()["beta2"] == 0.9


def test_the_schema_takes_what_is_written_and_refuses_what_the_options_refuse(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    described = schema()
    jsonschema.Draft202012Validator.check_schema(described)
    check = jsonschema.Draft202012Validator(described)
    for model in ("tiny_classifier", "tiny_detector", "tiny_enlarger"):
        of(model=model, devices=(0, 1), **{"model.width": 3}).save(tmp_path)
        assert check.is_valid(yaml.safe_load((tmp_path / "fit.yaml").read_text()))
    assert check.is_valid({**BASE, "model.body_options.width": 16, "epochs": 3})
    for wrong in ({"epochs": 0}, {"lr": "fast"}, {"optimizer": "lion"}, {"epoch": 3}, {"flip": 1}, {"jitter": [1]}):
        assert not check.is_valid({**BASE, **wrong})
    assert not check.is_valid({"model": "tiny_clasifier", "data": "x"})
    assert all(entry["description"] for entry in described["properties"].values())
