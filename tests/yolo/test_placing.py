"""Places in every family, scale letter and task: found by looking at what the layers give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, RTDETRDetectionModel

from attngraft._core.errors import PlaceError
from attngraft.yolo.placing import Layout, layout

# Layer indices of P2 P3 P4 P5 N3 N4 N5, read off the host's own YAML comments.
FAMILIES = {
    "yolov5n": (2, 4, 6, 9, 17, 20, 23),
    "yolov8n": (2, 4, 6, 9, 15, 18, 21),
    "yolov8s": (2, 4, 6, 9, 15, 18, 21),
    "yolov9t": (2, 4, 6, 9, 15, 18, 21),
    "yolov10n": (2, 4, 6, 10, 16, 19, 22),
    "yolov10m": (2, 4, 6, 10, 16, 19, 22),
    "yolo11n": (2, 4, 6, 10, 16, 19, 22),
    "yolo11m": (2, 4, 6, 10, 16, 19, 22),
    "yolo12n": (2, 4, 6, 8, 14, 17, 20),
    "yolo26n": (2, 4, 6, 10, 16, 19, 22),
    "rtdetr-l": (1, 3, 7, 9, 21, 24, 27),
}


def offered(name: str) -> Layout:
    kind = RTDETRDetectionModel if name.startswith("rtdetr") else DetectionModel
    model = kind(f"{name}.yaml", verbose=False)
    return layout(model.model, len(model.yaml["backbone"]), 3)


@pytest.mark.parametrize("name", FAMILIES)
def test_names_mean_the_hosts_own_layers(name: str) -> None:
    named = offered(name).named
    assert {place: int(host.path) for place, host in named.items()} == dict(
        zip(("P2", "P3", "P4", "P5", "N3", "N4", "N5"), FAMILIES[name], strict=True)
    )
    assert [host.stride for host in named.values()] == [4, 8, 16, 32, 8, 16, 32]


def test_a_classifier_has_a_backbone_and_no_neck() -> None:
    model = ClassificationModel("yolo11n-cls.yaml", verbose=False)
    found = layout(model.model, len(model.yaml["backbone"]), 3)
    assert list(found.named) == ["P2", "P3", "P4", "P5"]
    with pytest.raises(PlaceError, match="no place N4; this model has P2, P3, P4, P5, and layers 0-10"):
        found.find("N4")


def test_extra_strides_have_names_too() -> None:
    assert list(offered("yolov8n-p6").named) == ["P2", "P3", "P4", "P5", "P6", "N3", "N4", "N5", "N6"]
    for name in ("yolov8n-p2", "yolo26n-p2", "yolov8n-ghost-p2"):
        named = offered(name).named
        assert (named["P2"].stride, named["N2"].stride) == (4, 4)
        assert named["P2"].path == "2"


def test_looking_leaves_no_trace() -> None:
    model = DetectionModel("yolo11n.yaml", verbose=False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.random.get_rng_state()
    layout(model.model, 11, 3)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert all(module.training for module in model.model.modules())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("P6", "no place P6; this model has P2, P3, P4, P5, N3, N4, N5, and layers 0-23"),
        ("24", "no layer 24.*layers 0-23"),
        ("23", "layer 23 does not give one map"),
        ("8.m.0.m.0.cv9", "no module 8.m.0.m.0.cv9.*did you mean 8.m.0.m.0.cv[12]"),
    ],
)
def test_a_place_that_is_not_there_names_those_that_are(place: str, message: str) -> None:
    with pytest.raises(PlaceError, match=message):
        offered("yolo11n").find(place)


def test_a_two_level_model_and_one_that_reads_its_backbone_alone_have_the_places_that_they_read() -> None:
    """As announced of hosts to come: detection on P3 and P5 only, and a head that reads one map."""
    rows = [[-1, 1, "Conv", [16, 3, 2]] for _ in range(5)]
    two = DetectionModel({"nc": 2, "backbone": rows, "head": [[[2, 4], 1, "Detect", ["nc"]]]}, verbose=False)
    assert list(layout(two.model, 5, 3).named) == ["P2", "P3", "P4", "P5", "N3", "N5"]
    neck = [*rows, [-1, 1, "Conv", [32, 3, 1]]]
    one = DetectionModel({"nc": 2, "backbone": rows, "head": [neck[5], [[5], 1, "Detect", ["nc"]]]}, verbose=False)
    assert list(layout(one.model, 5, 3).named) == ["P2", "P3", "P4", "P5", "N5"]


@pytest.mark.parametrize(
    ("name", "place", "paths"),
    [
        ("yolo11n", "C2PSA", ["10.m.0.attn"]),
        ("yolo11n", "c2psa", ["10.m.0.attn"]),
        ("yolo11n", "PSABlock", ["10.m.0.attn"]),
        ("yolo11n", "Attention", ["10.m.0.attn"]),
        ("yolo11n", "10.attention", ["10.m.0.attn"]),
        ("yolo11n", "P5.attention", ["10.m.0.attn"]),
        ("yolo12n", "A2C2f", [f"{i}.m.{a}.{b}.attn" for i in (6, 8) for a in (0, 1) for b in (0, 1)]),
        ("rtdetr-l", "AIFI", ["11.ma"]),
        ("yolov10n", "PSA", ["10.attn"]),
        ("yolov8n", "C2f", [f"{i}.m.{a}.cv2" for i, n in ((2, 1), (4, 2), (6, 2), (8, 1)) for a in range(n)]
         + [f"{i}.m.0.cv2" for i in (12, 15, 18, 21)]),
        ("yolo11n", "P4.bottlenecks", ["6.m.0.m.0.cv2", "6.m.0.m.1.cv2"]),
        ("yolo26n", "22.bottlenecks", ["22.m.0.0.cv2"]),
        ("yolov10n", "C2fCIB", ["22.m.0.cv1"]),
        ("yolo11n", "SPPF", ["9"]),
        ("rtdetr-l", "MultiheadAttention", ["11.ma"]),
        ("yolo26n", "SPPF", ["9"]),
        ("yolo11n", "8.m.0.cv3", ["8.m.0.cv3"]),
        ("yolo11n", "P5", ["P5"]),
    ],
)  # fmt: skip
def test_a_class_name_means_what_attends_or_ends_a_bottleneck_inside(name: str, place: str, paths: list[str]) -> None:
    assert offered(name).expand(place) == paths


@pytest.mark.parametrize("name", ["yolo11n", "yolov8n"])
def test_a_class_name_leaves_out_the_detection_head(name: str) -> None:
    found = offered(name)
    paths = found.expand("Conv")
    assert set(paths) <= set(found.hosts)
    stock = [
        path for path, one in found.classes.items() if one == "Conv" and path.split(".")[0] != f"{found.layers - 1}"
    ]
    assert paths == stock


INSIDE = "which Ultralytics makes one convolution before it validates, predicts and exports, .* be lost; use @"


@pytest.mark.parametrize(
    ("name", "place", "message"),
    [
        ("yolo11n", "10.cv1.bn", rf"10.cv1.bn is inside 10.cv1 \(Conv\), {INSIDE}10.cv1"),
        ("yolo11n", "0.conv", rf"0.conv is inside 0 \(Conv\), {INSIDE}0"),
        ("yolo11n", "0.act", rf"0.act is inside 0 \(Conv\), {INSIDE}0"),
        ("yolov9c", "4.cv2.0.m.0.cv1.conv1", rf"is inside 4.cv2.0.m.0.cv1 \(RepConv\), {INSIDE}4.cv2.0.m.0.cv1"),
        ("rtdetr-l", "16.m.0.conv1", rf"is inside 16.m.0 \(RepConv\), {INSIDE}16.m.0"),
        ("yolov10s", "8.m.0.cv1.2.conv1.conv", rf"is inside 8.m.0.cv1.2 \(RepVGGDW\), {INSIDE}8.m.0.cv1.2"),
        ("yolov8n", "Conv2d", rf"Conv2d is no place: 0.conv is inside 0 \(Conv\), {INSIDE}0"),
        ("yolov8n", "BatchNorm2d", rf"BatchNorm2d is no place: 0.bn is inside 0 \(Conv\), {INSIDE}0"),
        ("yolo11n", "SiLU", rf"SiLU is no place: 0.act is inside 0 \(Conv\), {INSIDE}0"),
    ],
)
def test_what_is_fused_carries_no_graft(name: str, place: str, message: str) -> None:
    """A graft there is trained, and gone or at another point where the model is validated."""
    found = offered(name)
    with pytest.raises(PlaceError, match=message):
        found.find(found.expand(place)[0])
    assert place not in found.hosts


def test_a_module_of_several_blocks_carries_no_graft() -> None:
    """An activation that blocks share would carry it into each, and into every model that is built after."""
    model = DetectionModel("yolo11n.yaml", verbose=False)
    shared = nn.SiLU()
    for block in (model.model[2], model.model[4]):
        block.add_module("act", shared)
        block.forward = lambda x, block=block: block.act(type(block).forward(block, x))
    found = layout(model.model, len(model.yaml["backbone"]), 3)
    with pytest.raises(PlaceError, match=r"2.act is one module with 4.act, which would all get the graft; use @2"):
        found.find("2.act")


@pytest.mark.parametrize("neck", [True, False])
def test_strides_up_to_128_are_told_apart(neck: bool) -> None:
    """A map of one cell does not say its stride: two convolutions of stride 2 may both give one."""
    backbone: list[Any] = [[-1, 1, "Conv", [16, 3, 2]] for _ in range(7)]
    up: list[Any] = [[-1, 1, "nn.Upsample", [None, 2, "nearest"]], [[-1, 5], 1, "Concat", [1]]]
    head = [*up, [[8, 6], 1, "Detect", ["nc"]]] if neck else [[[5, 6], 1, "Detect", ["nc"]]]
    model = DetectionModel({"nc": 2, "backbone": backbone, "head": head}, verbose=False)
    named = layout(model.model, 7, 3).named
    assert {place: (int(host.path), host.stride) for place, host in named.items()} == {
        "P2": (1, 4), "P3": (2, 8), "P4": (3, 16), "P5": (4, 32), "P6": (5, 64), "P7": (6, 128),
        "N6": (8 if neck else 5, 64), "N7": (6, 128),
    }  # fmt: skip
    assert sorted(model.stride.tolist()) == [64, 128]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        (
            "yolo11n",
            "DWConv",
            r"no DWConv that gives one map .* before its head \(6 left out, the first is 23.cv3.0.0.0",
        ),
        ("yolov8n", "Sequential", r"\(6 left out, the first is 22.cv2.0\); graft at one of P2, P3, P4, P5, N3"),
        ("yolo11n", "Detect", r"\(1 left out, the first is 23\)"),
    ],
)
def test_a_class_of_the_head_alone_is_refused(name: str, kind: str, message: str) -> None:
    with pytest.raises(PlaceError, match=message):
        offered(name).expand(kind)


def test_insides_that_are_not_there_say_what_is() -> None:
    found = offered("yolo11n")
    with pytest.raises(PlaceError, match="no block of the class C3kk; there are: Conv, C2f, SPPF|did you mean"):
        offered("yolov8n").expand("C3kk")
    with pytest.raises(PlaceError, match=r"layer 9 \(SPPF\) has no attention inside"):
        found.expand("9.attention")
    with pytest.raises(PlaceError, match=r"layer 99 \(not there\) has no bottlenecks inside"):
        found.expand("99.bottlenecks")
    with pytest.raises(PlaceError, match="gives tokens and no map; take its place with mode=replace"):
        offered("rtdetr-l").find("11.ma")
