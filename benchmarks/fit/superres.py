"""A small HAT enlarges photographs twice, beside bicubic enlargement: python benchmarks/fit/superres.py DATA.

The data set is a folder with train, val and test of large images; the small ones are made of them. An image and a
folder as further words take an enlargement of it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from table import write

from attngraft.fit import Fit, load, predict, validate

RECIPE = {
    "scale": 2,
    "epochs": 60,
    "val_every": 30,
    "batch": 8,
    "imgsz": 24,
    "lr": 2e-3,
    "ema": 0.99,
    "workers": 0,
    "model.channels": 16,
    "model.depths": (2,),
    "model.heads": 2,
    "model.window": 8,
    "model.compress": 3,
    "model.squeeze": 6,
    "model.drop_path": 0.0,
}


def main(data: Path) -> None:
    """Train, and measure beside bicubic enlargement."""
    with tempfile.TemporaryDirectory() as home:
        run = Fit("hat_s", data, out=Path(home) / "run", **RECIPE).run()
        trained = load(run.folder)
        rows = {}
        for split in ("val", "test"):
            numbers = validate(trained, split=split, workers=0)
            for name, prefix in {"bicubic": "bicubic_", "HAT": ""}.items():
                rows[f"{split}, {name}"] = {key: numbers[f"{prefix}{key}"] for key in ("psnr", "ssim")}
        if len(sys.argv) > 3:
            predict(trained, sys.argv[2], sys.argv[3])
    parameters = sum(parameter.numel() for parameter in trained.learner.network.parameters())
    write(
        "superres",
        f"Twice enlargement of photographs by a HAT of {parameters:,} parameters (16 channels, a group of two blocks, "
        f"windows of 8), from scratch on 90 images in {RECIPE['epochs']} epochs with preset `small`, one seed. PSNR"
        " in decibels and SSIM on luma, a border of 2 cut off; the test images are from another source. Small "
        "images are made by antialiased bicubic resampling.",
        ["psnr", "ssim"],
        rows,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
