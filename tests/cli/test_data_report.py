"""Images that Ultralytics leaves out of a run are named; labels of unknown classes stop it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

SHORT = "epochs=1 imgsz=64 batch=4 device=cpu workers=0 plots=False amp=False optimizer=SGD lr0=0.1"


def test_a_label_of_an_unknown_class_stops_the_training(data: Path, run: Callable[[str], Result]) -> None:
    (data.parent / "labels/train/0.txt").write_text("7 0.5 0.5 0.5 0.5\n")
    result = run(f"train model=yolo11n.yaml+se@P5 data={data} {SHORT}")
    assert result.exit_code == 1
    assert "1 of 8 training images are left out" in result.output
    assert "images/train/0.png (Label class 7 exceeds dataset class count 2" in result.output


def test_an_unreadable_picture_is_named_and_the_rest_trains(data: Path, run: Callable[[str], Result]) -> None:
    (data.parent / "images/val/3.png").write_bytes(b"not a picture")
    result = run(f"train model=yolo11n.yaml+se@P5 data={data} {SHORT}")
    assert result.exit_code == 0, result.output
    assert "1 of 8 validation images are left out, first" in result.output
    assert "images/val/3.png" in result.output
