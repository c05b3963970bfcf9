"""Train the small grafted detectors of the image benchmarks; what is trained is kept for the next call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attngraft import data
from attngraft.yolo import YOLO

RECIPE = "attngraft-micro.yaml+mhsa(heads=8,init=paper)@P3"
FACTOR_IMAGES = 1200
FACTOR_EPOCHS = 12
RULES = ("shape", "colour")

PLAIN: dict[str, Any] = {
    "optimizer": "AdamW", "lr0": 0.002, "lrf": 0.05, "cos_lr": True, "warmup_epochs": 1, "warmup_bias_lr": 0,
    "weight_decay": 0.0001, "mosaic": 0, "close_mosaic": 0, "hsv_h": 0, "hsv_s": 0, "hsv_v": 0, "translate": 0,
    "scale": 0, "erasing": 0, "batch": 16, "nbs": 16, "workers": 0, "plots": False, "verbose": False, "device": "cpu",
}  # fmt: skip
"""The rates of the beacons study; nothing is augmented, so that no factor is changed behind its label."""


def factor_data(kept: Path, rule: str, seed: int) -> Path:
    """Return the data file of a rule; documents are the training images of another seed, which no detector saw."""
    return data.factors(kept / f"factors-{rule}-{seed}", rule=rule, train=FACTOR_IMAGES, val=200, seed=seed)  # type: ignore[arg-type]


def factor_detector(kept: Path, rule: str, seed: int, epochs: int = FACTOR_EPOCHS) -> Path:
    """Return the checkpoint of a detector whose classes are the values of one factor."""
    return trained(
        kept, f"factors-{rule}-{epochs}-{seed}", RECIPE, factor_data(kept, rule, seed=100), seed,
        epochs=epochs, imgsz=96, fliplr=0, flipud=0,
    )  # fmt: skip


def trained(kept: Path, name: str, recipe: str, data_file: Path, seed: int, **options: Any) -> Path:
    """Train a recipe unless it was, and return its last checkpoint."""
    file = kept / "runs" / name / "weights" / "last.pt"
    if not (kept / "runs" / name / "done").exists():
        place = {"project": str(kept / "runs"), "name": name, "exist_ok": True}
        YOLO(recipe).train(
            data=str(data_file), seed=seed, deterministic=True, val=False, **place, **{**PLAIN, **options}
        )
        (kept / "runs" / name / "done").touch()
    return file
