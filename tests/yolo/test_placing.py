"""Places in every family, scale letter and task: found by looking at what the layers give."""

from __future__ import annotations

import pytest
import torch
from ultralytics.nn.tasks import ClassificationModel, DetectionModel, RTDETRDetectionModel

from attngraft._core.errors import PlaceError
from attngraft.yolo.placing import Layout, layout

# Layer indices of P3 P4 P5 N3 N4 N5, read off the host's own YAML comments.
FAMILIES = {
    "yolov5n": (4, 6, 9, 17, 20, 23),
    "yolov8n": (4, 6, 9, 15, 18, 21),
    "yolov8s": (4, 6, 9, 15, 18, 21),
    "yolov9t": (4, 6, 9, 15, 18, 21),
    "yolov10n": (4, 6, 10, 16, 19, 22),
    "yolov10m": (4, 6, 10, 16, 19, 22),
    "yolo11n": (4, 6, 10, 16, 19, 22),
    "yolo11m": (4, 6, 10, 16, 19, 22),
    "yolo12n": (4, 6, 8, 14, 17, 20),
    "yolo26n": (4, 6, 10, 16, 19, 22),
    "rtdetr-l": (3, 7, 9, 21, 24, 27),
}


def offered(name: str) -> Layout:
    kind = RTDETRDetectionModel if name.startswith("rtdetr") else DetectionModel
    model = kind(f"{name}.yaml", verbose=False)
    return layout(model.model, len(model.yaml["backbone"]), 3)


@pytest.mark.parametrize("name", FAMILIES)
def test_names_mean_the_hosts_own_layers(name: str) -> None:
    named = offered(name).named
    assert {place: int(host.path) for place, host in named.items()} == dict(
        zip(("P3", "P4", "P5", "N3", "N4", "N5"), FAMILIES[name], strict=True)
    )
    assert [host.stride for host in named.values()] == [8, 16, 32] * 2


def test_a_classifier_has_a_backbone_and_no_neck() -> None:
    model = ClassificationModel("yolo11n-cls.yaml", verbose=False)
    found = layout(model.model, len(model.yaml["backbone"]), 3)
    assert list(found.named) == ["P3", "P4", "P5"]
    with pytest.raises(PlaceError, match="no place N4; this model has P3, P4, P5, and layers 0-10"):
        found.find("N4")


def test_extra_strides_have_names_too() -> None:
    assert list(offered("yolov8n-p6").named) == ["P3", "P4", "P5", "P6", "N3", "N4", "N5", "N6"]
    assert "N2" in offered("yolov8n-p2").named


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
        ("P6", "no place P6; this model has P3, P4, P5, N3, N4, N5, and layers 0-23"),
        ("24", "no layer 24.*layers 0-23"),
        ("23", "layer 23 does not give one map"),
        ("8.m.0.m.0.cv9", "no module 8.m.0.m.0.cv9.*did you mean 8.m.0.m.0.cv[12]"),
    ],
)
def test_a_place_that_is_not_there_names_those_that_are(place: str, message: str) -> None:
    with pytest.raises(PlaceError, match=message):
        offered("yolo11n").find(place)
