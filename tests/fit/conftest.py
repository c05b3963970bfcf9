"""Tiny networks and tiny data for real trainings of a second or two."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fit.networks import entered

QUICK: dict[str, Any] = {"workers": 0, "accelerator": "cpu", "preset": "small"}


@pytest.fixture(autouse=True)
def _networks() -> Iterator[None]:
    with entered():
        yield


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lines() -> list[str]:
    """What a training said, once its ``append`` is given to it."""
    return []


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that are mostly red, green or blue, a folder a class."""
    home = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for split, count in {"train": 8, "val": 4, "test": 2}.items():
        for channel, name in enumerate(("red", "green", "blue")):
            folder = home / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                save(folder / f"{index}.png", noise(rng, 20, 24) + 100 * (np.arange(3) == channel))
    return home


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright squares on noise, with YOLO labels (outlines) and COCO's JSON of the same objects."""
    home = tmp_path_factory.mktemp("shapes")
    rng = np.random.default_rng(1)
    for split, count in {"train": 8, "val": 4}.items():
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories(3, 7)}
        (home / "images" / split).mkdir(parents=True)
        (home / "labels" / split).mkdir(parents=True)
        for index in range(count):
            pixels, rows, name = noise(rng, 48, 64), [], f"{split}/{index}.png"
            for label in range(2):
                left, top = int(rng.integers(0, 20)) + 32 * label, int(rng.integers(0, 30))
                pixels[top : top + 12, left : left + 10, label] = 255
                outline = np.array([[left, top], [left + 10, top], [left + 10, top + 12], [left, top + 12]], float)
                rows.append(f"{label} " + " ".join(f"{x:.6f}" for x in (outline / [64, 48]).reshape(-1)))
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": index,
                        "category_id": (3, 7)[label],
                        "bbox": [left, top, 10, 12],
                        "area": 120,
                        "iscrowd": 0,
                        "segmentation": [outline.reshape(-1).tolist()],
                    }
                )
            content["images"].append({"id": index, "file_name": f"images/{name}", "width": 64, "height": 48})
            save(home / "images" / name, pixels)
            (home / "labels" / name).with_suffix(".txt").write_text("\n".join(rows))
        (home / f"instances_{split}.json").write_text(json.dumps(content))
    (home / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: red, 1: green}\n")
    return home


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth images with edges, for enlarging."""
    home = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(2)
    for split, count in {"train": 4, "val": 2}.items():
        (home / split).mkdir()
        for index in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (6, 7, 3)).astype(np.uint8))
            coarse.resize((41, 36), Image.Resampling.NEAREST).save(home / split / f"{index}.png")
    return home


@pytest.fixture
def begin() -> Callable[..., Any]:
    """Begin a quick training of the classifier."""
    from attngraft.fit import Fit

    def make(data: Path, model: str = "tiny_classifier", **options: Any) -> Fit:
        return Fit(model, data, **{**QUICK, "epochs": 1, "batch": 8, "imgsz": 16, **options})

    return make


def categories(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in zip(numbers, ("red", "green"), strict=True)]


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 100, (height, width, 3))


def save(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.astype(np.uint8)).save(path)
