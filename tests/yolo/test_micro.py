"""The micro base model: its size, its one map, and how far its convolutions see."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel

import attngraft
from attngraft.data.scenes import GAP

MICRO = Path(attngraft.__file__).parent / "yolo" / "cfg" / "attngraft-micro.yaml"


@pytest.fixture(scope="module")
def micro() -> DetectionModel:
    return DetectionModel(str(MICRO), nc=2, verbose=False)


def test_size_and_map(micro: DetectionModel) -> None:
    assert sum(parameter.numel() for parameter in micro.parameters()) == 131_650
    assert micro.stride.tolist() == [8]
    assert [type(layer).__name__ for layer in micro.model] == ["Conv", "Conv", "Conv", "C3k2", "Detect"]
    assert len(micro.yaml["backbone"]) == 4


def test_stock_ultralytics_builds_it() -> None:
    assert YOLO(MICRO, verbose=False).task == "detect"


@pytest.mark.parametrize("branch", ["cv2", "cv3"], ids=["boxes", "classes"])
def test_a_cell_sees_less_far_than_the_beacon_is(branch: str) -> None:
    """Which pixels can change a prediction: those with a gradient when no weight cancels another."""
    model = DetectionModel(str(MICRO), nc=2, verbose=False).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    image = torch.rand(1, 3, 192, 192, dtype=torch.float64, requires_grad=True)
    found = getattr(model.model[4], branch)[0](model.model[:4](image))
    row = column = 12
    found[0, :, row, column].sum().backward()
    assert image.grad is not None
    seen = image.grad.abs().sum((0, 1)).nonzero()
    centre = 8 * row + 4  # the corner that four pixels of the cell share; a cell answers for a box that holds it
    assert (centre - seen.min().item(), seen.max().item() + 1 - centre) == (43, 36)
    assert GAP > 43
