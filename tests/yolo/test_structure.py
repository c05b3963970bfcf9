"""Model YAMLs that cannot be built: one clear error each, and never a raw one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import ultralytics
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from attngraft._core.errors import AttngraftError, CheckpointError, ModelYamlError
from attngraft.yolo.model import open_stock
from attngraft.yolo.structure import misplaced, require_model_yaml

GOOD: dict[str, Any] = {
    "nc": 2,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "C2f", [16, True]]],
    "head": [[-1, 1, "SE", [4]], [[3], 1, "Detect", ["nc"]]],
}


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    model = copy.deepcopy(GOOD)
    inner: Any = model
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return model


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["backbone"], None, "needs a backbone: a list of rows"),
        (["head"], [], "needs a head"),
        (["head"], "Detect", "needs a head.*got a str"),
        (["backbone", 1], [-1, 1, "Conv"], r"row 1 of m\.yaml is \[from, repeats, module, arguments\]"),
        (["backbone", 1], "Conv", "row 1 of"),
        (["backbone", 1, 0], 5, r"row 1 \(Conv\) of m\.yaml reads layer 5, and only layers before it"),
        (["backbone", 1, 0], -3, "reads layer -3"),
        (["backbone", 1, 0], "x", "begins with the layers"),
        (["backbone", 1, 0], [], "begins with the layers"),
        (["backbone", 1, 1], 0, "repeated a positive number"),
        (["backbone", 1, 1], "two", "repeated a positive number"),
        (["backbone", 1, 2], 7, "names a module third"),
        (["backbone", 1, 3], 8, "ends in a list of arguments"),
        (["nc"], "two", "nc, the number of classes, to be a positive integer"),
        (["nc"], 0, "nc, the number of classes"),
        (["nc"], None, "needs nc, the number of classes, since its head reads it; add a line nc: 80"),
        (["scales"], {"n": [1.0]}, "gives a depth, a width and the most channels"),
        (["scales"], [1], "gives a depth"),
        (["width_multiple"], "wide", "width_multiple to be a positive number"),
        (["depth_multiple"], -1, "depth_multiple to be a positive number"),
        (["head", 1, 0], [30], "reads layer 30"),
    ],
)
def test_a_slip_names_its_row(path: list[Any], value: Any, message: str) -> None:
    require_model_yaml(GOOD, "m.yaml")
    with pytest.raises(ModelYamlError, match=message):
        require_model_yaml(changed(path, value), "m.yaml")


def test_a_row_behind_the_head_is_named() -> None:
    model = copy.deepcopy(yaml_model_load("yolo11n.yaml"))
    model["head"].append([-1, 1, "SE", []])
    with pytest.raises(ModelYamlError, match=r"m.yaml ends in row 24 \(SE\), behind its head, row 23 \(Detect\)"):
        require_model_yaml(model, "m.yaml")
    model["head"][-1] = [-1, 1, "MyDetect", ["nc"]]
    require_model_yaml(model, "m.yaml")  # a head of the user's own
    model["head"][-2:] = [[-1, 1, "nn.ConvTranspose2d", [64, 64]], [-1, 1, "MyHead", []]]
    require_model_yaml(model, "m.yaml")


def test_a_model_without_a_head_says_what_is_missing() -> None:
    model = {"nc": 2, "backbone": [[-1, 1, "Conv", [8, 3, 2]]], "head": [[-1, 1, "SE", []]]}
    Path("bare.yaml").write_text(yaml.safe_dump(model))
    with pytest.raises(
        ModelYamlError, match="bare.yaml ends in SE, which says no task; end it in a head such as Detect"
    ):
        open_stock("bare.yaml")


@pytest.mark.parametrize(("last", "task", "clean"), [
    (["Detect", ["nc", "anchors"]], "detect", ["nc"]),
    (["Segment", ["nc", "anchors", 32, 256]], "segment", ["nc", 32, 256]),
])  # fmt: skip
def test_a_yaml_of_the_yolov5_repository_opens_without_its_anchors(
    last: list[Any], task: str, clean: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = copy.deepcopy(yaml_model_load("yolov5n.yaml"))
    model = {key: model[key] for key in ("nc", "backbone", "head")}
    stock = {**model, "depth_multiple": 0.33, "width_multiple": 0.25}
    stock["head"][-1][2:] = [last[0], clean]
    own = copy.deepcopy(stock) | {"anchors": [[10, 13, 16, 30, 33, 23]] * 3}
    own["head"][-1][2:] = last
    Path("stock.yaml").write_text(yaml.safe_dump(stock))
    Path(f"yolov5n-{task}.yaml").write_text(yaml.safe_dump(own))
    opened = open_stock(f"yolov5n-{task}.yaml")
    assert opened.task == task
    assert opened.model.yaml["head"][-1][3] == clean  # so the stock command builds it again
    shapes = [
        {key: value.shape for key, value in one.model.state_dict().items()}
        for one in (opened, open_stock("stock.yaml"))
    ]
    assert shapes[0] == shapes[1]
    assert [r.getMessage() for r in caplog.records if "the anchors of the YOLOv5 repository" in r.getMessage()]


@pytest.mark.parametrize("name", ["yolo11s-own.yaml", "yolo11-own.yaml"])
def test_a_folder_called_like_a_model_is_no_scale(name: str) -> None:
    """Ultralytics takes the letter out of the first number of the path."""
    folder = Path("yolo11n")
    folder.mkdir()
    own = {key: value for key, value in yaml_model_load("yolo11n.yaml").items() if key not in ("scale", "yaml_file")}
    (folder / "yolo11-own.yaml").write_text(yaml.safe_dump(own, sort_keys=False))
    opened = open_stock(f"yolo11n/{name}").model
    assert (opened.yaml["scale"] or "n") == ("s" if name.startswith("yolo11s") else "n")
    assert sum(p.numel() for p in opened.parameters()) == (9_458_752 if opened.yaml["scale"] else 2_624_080)
    with pytest.raises(CheckpointError, match="the model 'yolo11n/yolo11m-mine.yaml' does not exist"):
        open_stock("yolo11n/yolo11m-mine.yaml")


def test_every_stock_yaml_passes() -> None:
    files = sorted((Path(ultralytics.__file__).parent / "cfg" / "models").rglob("*.yaml"))
    assert len(files) > 50
    for file in files:
        require_model_yaml(yaml_model_load(str(file)), str(file))
        assert misplaced(yaml_model_load(str(file))) == "", file


def test_indices_that_an_inserted_row_left_behind_are_seen() -> None:
    """The commonest slip of posts: the model builds and trains, and its head reads a bare concatenation."""
    model = copy.deepcopy(yaml_model_load("yolo11n.yaml"))
    model["backbone"].append([-1, 1, "MHSA", [14, 14, 4]])
    assert misplaced(model) == (
        "row 24 (Detect) reads row 16 (Concat), and row 24 (Detect) reads row 19 (Concat), and "
        "row 24 (Detect) reads row 22 (Concat), and no row reads row 23 (C3k2)"
    )
    model["head"][-1][0] = [17, 20, 23]
    model["head"][8][0] = [-1, 14]
    assert misplaced(model) == ""


def test_a_slip_of_indices_is_warned_of_where_the_model_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    model = copy.deepcopy(yaml_model_load("yolo11n.yaml"))
    model["backbone"].append([-1, 1, "MHSA", []])
    DetectionModel(model, verbose=True)
    (said,) = [r.getMessage() for r in caplog.records if "no row reads row 23 (C3k2)" in r.getMessage()]
    assert "A row that was put in shifts every absolute index after it" in said
    caplog.clear()
    DetectionModel(copy.deepcopy(yaml_model_load("yolo11n.yaml")), verbose=True)
    assert not [r for r in caplog.records if "put in" in r.getMessage()]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["backbone", 1, 3], [8, 3, 0], r"bad.yaml cannot be built: RuntimeError: non-positive stride"),
        (["backbone", 1, 3], [], r"cannot be built at row 1 \(Conv\): IndexError"),
        (["backbone", 1, 3], ["wide", 3, 2], r"cannot be built at row 1 \(Conv\): "),
        (["head", 0], [[-1, 0], 1, "Concat", [1]], "bad.yaml cannot be built: RuntimeError: Sizes of tensors"),
        (["backbone", 1], [-1, 1, "PSA", [256]], r"row 1 \(PSA\): it requires c1 == c2, got c1=8, c2=256; check"),
        (["activation"], "Nothing()", r"needs activation to be a class of torch.nn.*got 'Nothing\(\)'"),
        (["activation"], "nn.Nothing()", "bad.yaml cannot be built: AttributeError"),
        (["backbone", 1, 1], 10**9, "is repeated a positive number of times, 1000 at most"),
        (["attngraft"], 5, "grafts are given in text, such as .*, got 5"),
    ],
)
def test_what_the_host_cannot_build_is_one_clear_error(path: list[Any], value: Any, message: str) -> None:
    Path("bad.yaml").write_text(yaml.safe_dump(changed(path, value)))
    with pytest.raises(ModelYamlError, match=message):
        open_stock("bad.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "", "3", "[]", "nc: 2", "backbone: [", "a: &a [*a]", "base: 3", "base: yolo11.txt", "base: bad.yaml",
        "base: yolo11n.yaml\ngrafts: [se]", "base: yolo11n.yaml\ngrafts: se@P9", "base: yolo11n.yaml\nbackbone: 3",
        "base: yolo11n.yaml\nbackbone: [a, b, c]", "base: yolo11n.yaml\nhead: Detect", "base: nowhere.yaml",
        "base: yolo11n.yaml\nbackbone: botnet99", "base: yolo11n.yaml\ngraft: se@P4",
        "\x00", "nc: 2\nbackbone: {}\nhead: {}", "base: yolo11n.yaml\nnc: -1",
        "a: &a [1,1,1,1]\n" + "\n".join(f"b{i}: &b{i} [*{'a' if i == 0 else f'b{i - 1}'}" + "]" for i in range(3)),
    ],
)  # fmt: skip
def test_a_malformed_file_is_one_clear_error(text: str) -> None:
    Path("bad.yaml").write_text(text)
    with pytest.raises(AttngraftError):
        open_stock("bad.yaml")


@pytest.mark.parametrize(
    "activation",
    [
        "__import__('pathlib').Path('ran').touch() or nn.ReLU()",
        "nn.ReLU(__import__('pathlib').Path('ran').touch())",
        "nn.ReLU(inplace=__import__('pathlib').Path('ran').touch())",
        "(nn.ReLU(), __import__('pathlib').Path('ran').touch())[0]",
    ],
)
def test_the_activation_of_a_file_runs_no_program(activation: str) -> None:
    Path("bad.yaml").write_text(yaml.safe_dump(changed(["activation"], activation)))
    with pytest.raises(ModelYamlError, match="needs activation to be a class of torch.nn with plain values"):
        open_stock("bad.yaml")
    assert not Path("ran").exists()
    for good in ("nn.ReLU()", "torch.nn.LeakyReLU(0.1, inplace=True)"):
        require_model_yaml(changed(["activation"], good), "m.yaml")


def test_files_that_are_based_on_each_other_are_named() -> None:
    Path("a.yaml").write_text("base: b.yaml\ngrafts: se@P4")
    Path("b.yaml").write_text("base: a.yaml\ngrafts: se@P4")
    with pytest.raises(ModelYamlError, match="b.yaml names a.yaml, which is based on it, as its base"):
        open_stock("a.yaml")


JUNK = st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.text(max_size=3) | st.just([]) | st.just({})
PLACES = st.sampled_from(
    [
        [key, index, part] for key in ("backbone", "head") for index in (0, 1) for part in range(4)
    ] + [[key] for key in ("nc", "scales", "scale", "backbone", "head", "activation", "channels", "reg_max")]
    + [[key, 1, 3, 0] for key in ("backbone", "head")]
)  # fmt: skip


@settings(max_examples=60, deadline=None, derandomize=True)
@given(PLACES, JUNK)
def test_whatever_stands_in_a_yaml_it_builds_or_is_one_clear_error(path: list[Any], value: Any) -> None:
    Path("fuzz.yaml").write_text(yaml.safe_dump(changed(path, value)))
    try:
        open_stock("fuzz.yaml")
    except AttngraftError:
        return
