"""MAY: the published counts, and what of it the host can carry."""

from __future__ import annotations

import pytest
import torch
from ultralytics.nn.modules import Detect

import attngraft
from attngraft.yolo.model import resolve_base

PUBLISHED = {"may-none": 3_137_977, "may": 3_138_055, "may-se": 3_593_999}
ANCHORS, CLASSES, NECK = 3, 20, (128, 256, 512)


@pytest.mark.parametrize("name", PUBLISHED)
def test_with_yolov5s_head_it_has_the_published_parameters(name: str) -> None:
    """That head is a 1x1 convolution of each map to four sides, an objectness and the classes of each anchor."""
    model = attngraft.YOLO(name).model
    *body, head = model.model
    assert isinstance(head, Detect)
    assert [branch[0].conv.in_channels for branch in head.cv2] == list(NECK)
    outputs = ANCHORS * (CLASSES + 5)
    yolov5 = sum((channels + 1) * outputs for channels in NECK)
    assert sum(p.numel() for layer in body for p in layer.parameters()) + yolov5 == PUBLISHED[name]
    assert model.stride.tolist() == [8, 16, 32]


def test_it_runs_at_any_size() -> None:
    model = attngraft.YOLO("may").model.eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 96, 160))[0].shape == (1, 24, 96 * 160 // 64 + 96 * 160 // 256 + 96 * 160 // 1024)


def test_a_name_of_ours_is_not_looked_for_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    assert resolve_base("may") == "may.yaml"
    assert resolve_base("yolo11n-botnet50") == "yolo11n-botnet50.yaml"
    assert resolve_base("yolo11s-mhsa") == "yolo11s-mhsa.yaml"
    assert not caplog.records


def test_weights_of_that_name_come_first() -> None:
    model = attngraft.YOLO("may")
    model.save("may.pt")
    assert resolve_base("may") == "may.pt"
