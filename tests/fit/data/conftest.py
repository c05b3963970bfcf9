"""Data sets of one file, changed at one place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def coco(shapes: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a changed copy of the training JSON beside the images."""

    def write(change: Change = lambda content: None) -> Path:
        content = json.loads((shapes / "instances_train.json").read_text())
        change(content)
        if not (tmp_path / "images").exists():
            (tmp_path / "images").symlink_to(shapes / "images")
        (tmp_path / "instances_train.json").write_text(json.dumps(content))
        return tmp_path / "instances_train.json"

    return write


@pytest.fixture
def yolo(shapes: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a data set of one image with these label lines."""

    def write(*lines: str, data: str = "train: images\nval: images\nnames: [red, green]\n") -> Path:
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / "images/0.png")
        (tmp_path / "labels/0.txt").write_text("\n".join(lines))
        (tmp_path / "data.yaml").write_text(data)
        return tmp_path / "data.yaml"

    return write
