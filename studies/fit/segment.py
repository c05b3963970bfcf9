"""Mask R-CNN on BoTNet-50 outlines cell nuclei, from scratch: python studies/fit/segment.py data.yaml.

The data set is that of the Data Science Bowl 2018 in YOLO's layout; a part of its fluorescence pictures is used, and
the network is a quarter as wide as the paper's, so that a CPU trains it in minutes. A folder as second word takes a
test picture with what was found on it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import yaml
from table import write

from attngraft.fit import Fit, Trained, load, predict, validate

PICTURES = {"train": 100, "val": 6, "test": 16}
RECIPE = {
    "epochs": 3,
    "val_every": 3,
    "batch": 2,
    "imgsz": 160,
    "lr": 1e-3,
    "ema": 0.98,
    "jitter": (0.8, 1.6),
    "workers": 0,
    "model.channels": 64,
    "model.body_options": {"width": 16},
    "model.box_batch_size_per_image": 16,
    "model.rpn_post_nms_top_n_train": 100,
    "model.rpn_pre_nms_top_n_test": 200,
    "model.rpn_post_nms_top_n_test": 80,
    "model.box_detections_per_img": 40,
}


def main(data: Path) -> None:
    """Train, measure before and after, and draw."""
    with tempfile.TemporaryDirectory() as home:
        part = fluorescence(data, Path(home))
        run = Fit("maskrcnn_botnet50", part, out=Path(home) / "run", **RECIPE).run()
        trained = load(run.folder)
        rows = {"untrained": scores(trained.untrained()), f"{RECIPE['epochs']} epochs": scores(trained)}
        if len(sys.argv) > 2:
            predict(trained, (Path(home) / "test.txt").read_text().split()[0], sys.argv[2])
    write(
        "segment",
        f"{PICTURES['train']} fluorescence pictures of nuclei at {RECIPE['imgsz']} pixels, from scratch in "
        f"{RECIPE['epochs']} epochs with preset `small`: Mask R-CNN on a BoTNet-50 of width 16 instead of 64, one "
        f"seed. COCO's numbers on {PICTURES['test']} test pictures, in per cent, at most 40 nuclei a picture.",
        list(rows["untrained"]),
        rows,
    )


def fluorescence(data: Path, out: Path) -> Path:
    """List the first fluorescence pictures of each split in a data set of their own."""
    content = yaml.safe_load(data.read_text())
    for split, count in PICTURES.items():
        pictures = sorted((data.parent / content[split]).glob("fluo_*"))[:count]
        (out / f"{split}.txt").write_text("\n".join(str(picture.resolve()) for picture in pictures))
        content[split] = f"{split}.txt"
    (out / "data.yaml").write_text(yaml.safe_dump(content))
    return out / "data.yaml"


def scores(trained: Trained) -> dict[str, float]:
    """Measure on the test split."""
    numbers = validate(trained, split="test", workers=0)
    return {name: 100 * numbers.get(name, 0.0) for name in ("AP", "AP50", "AP75", "box_AP", "box_AP50", "AR100")}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
