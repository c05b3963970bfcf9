"""The options of Ultralytics read from its file are those that it has itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml
from ultralytics.nn.tasks import DetectionModel, guess_model_scale
from ultralytics.utils import DEFAULT_CFG_DICT

from attngraft.yolo import keys


def test_every_option_is_there_with_its_default() -> None:
    read = {option.key: option for group in keys.option_groups().values() for option in group}
    assert set(read) == set(DEFAULT_CFG_DICT)
    assert {key: yaml.safe_load(option.default or "null") for key, option in read.items()} == DEFAULT_CFG_DICT
    assert all(option.about for option in read.values())
    assert read["epochs"].as_word == f"epochs={DEFAULT_CFG_DICT['epochs']}"
    assert read["data"].as_word == "data=None"


def test_groups_have_the_titles_of_the_file() -> None:
    groups = keys.option_groups()
    assert {"Train settings", "Hyperparameters", "Export settings"} <= set(groups)
    assert {"epochs", "batch"} <= {option.key for option in groups["Train settings"]}
    assert {"lr0", "mosaic"} <= {option.key for option in groups["Hyperparameters"]}


@pytest.mark.parametrize(
    ("kind", "about", "choices"),
    [
        ("bool", "whatever", ["True", "False"]),
        ("str", "split to use: 'val', 'test' or 'train'", ["val", "test", "train"]),
        ("str", "target, e.g. onnx|openvino|engine", ["onnx", "openvino", "engine"]),
        ("str", "task, i.e. detect, segment, obb", ["detect", "segment", "obb"]),
        ("str, optional", "path to a file: one that exists", []),
        ("int", "number of epochs: 1, 2", []),
    ],
)
def test_choices_are_those_that_a_description_lists(kind: str, about: str, choices: list[str]) -> None:
    assert keys.Option("key", "", kind, about).choices == choices


def test_names_of_bases_are_models() -> None:
    names = keys.base_names()
    assert {"yolo11n", "yolov8x-seg", "yolov10b", "yolov9c", "rtdetr-l"} <= set(names)
    assert not {"yolo11", "yolov10", "yolov10bb"} & set(names)
    assert guess_model_scale("yolo11n-seg.yaml") == "n"
    DetectionModel("yolov5n-p6.yaml", verbose=False)


def test_nothing_is_imported_for_it(fresh: Callable[..., str]) -> None:
    code = "import sys; from attngraft.yolo import keys; keys.option_groups(); keys.base_names()\n"
    assert fresh(f"{code}print({{'torch', 'ultralytics', 'yaml', 'numpy'}} & set(sys.modules))") == "set()\n"
