"""Weights to begin from: what a network takes of another's, and the sentence that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attngraft._core.errors import CheckpointError
from attngraft.fit.trained import begin_from
from attngraft.models import create

SMALL: dict[str, Any] = {"width": 8, "num_classes": 5}


def test_a_detector_begins_from_a_classifier(tmp_path: Path) -> None:
    classifier = create("resnet50", **SMALL)
    torch.save(classifier.state_dict(), tmp_path / "resnet50.pth")
    detector = create("fasterrcnn_botnet50", num_classes=2, max_size=64, body_options={"width": 8}, channels=16)
    said = begin_from(detector, tmp_path / "resnet50.pth")
    whole = len(detector.state_dict())
    assert said.startswith(
        f"315 of {whole} weights are from {tmp_path}/resnet50.pth; {whole - 315} are re-initialized, the"
    )
    assert torch.equal(detector.backbone.body.conv1.weight, classifier.conv1.weight)  # type: ignore[arg-type, union-attr]


def test_position_tables_follow_the_size_of_the_pictures(tmp_path: Path) -> None:
    small, large = (create("botnet50", image_size=size, **SMALL) for size in (32, 64))
    torch.save({"state_dict": {f"network.{name}": value for name, value in small.state_dict().items()}}, "small.ckpt")
    assert begin_from(large, Path("small.ckpt")) == (
        "326 of 326 weights are from small.ckpt, 6 position tables among them resized"
    )


def test_a_factor_of_enlargement_begins_anew(tmp_path: Path) -> None:
    hat: dict[str, Any] = {"channels": 24, "depths": (1,), "heads": 2, "window": 4}
    torch.save(create("hat_s", scale=2, **hat).state_dict(), "twice.pth")
    assert "; 2 are re-initialized, the first is enlarge." in begin_from(
        create("hat_s", scale=3, **hat), Path("twice.pth")
    )


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    torch.save(create("resnet50", **SMALL).state_dict(), "narrow.pth")
    with pytest.raises(CheckpointError, match="cannot initialize from weights=narrow.pth: .* has shape .* width"):
        begin_from(create("resnet50", width=16), Path("narrow.pth"))
