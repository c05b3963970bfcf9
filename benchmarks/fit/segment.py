"""Mask R-CNN on BoTNet-50 and ResNet-50 outlines cell nuclei, from scratch: python benchmarks/fit/segment.py data.yaml.

The data set is that of the Data Science Bowl 2018 in YOLO's layout; a part of its fluorescence images is used, and
the networks are a quarter as wide as the papers', so that a CPU trains each in half an hour. A folder as second word
takes the test images with what BoTNet found on them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import yaml
from table import write

from attngraft.fit import Fit, Trained, load, predict, validate

PICTURES = {"train": 100, "val": 8, "test": 16}
RECIPE = {
    "epochs": 24,
    "val_every": 4,
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
    """Train both, measure before and after, and draw."""
    rows = {}
    with tempfile.TemporaryDirectory() as home:
        part = fluorescence(data, Path(home))
        for backbone in ("resnet50", "botnet50"):
            run = Fit(f"maskrcnn_{backbone}", part, out=Path(home) / backbone, **RECIPE).run()
            trained = load(run.folder)
            rows[f"{backbone}, untrained"] = scores(trained.untrained())
            rows[backbone] = scores(trained)
        if len(sys.argv) > 2:
            for picture in (Path(home) / "test.txt").read_text().split():
                predict(trained, picture, Path(sys.argv[2]) / Path(picture).stem)
    write(
        "segment",
        f"{PICTURES['train']} fluorescence images of nuclei at {RECIPE['imgsz']} pixels, from scratch in "
        f"{RECIPE['epochs']} epochs with preset `small`: Mask R-CNN on backbones of width 16 instead of 64, one seed. "
        f"COCO's numbers on {PICTURES['test']} test images, in per cent, at most "
        f"{RECIPE['model.box_detections_per_img']} nuclei an image, of the weights that were best on "
        f"{PICTURES['val']} validation images. One seed does not tell which backbone is better.",
        list(rows["botnet50"]),
        rows,
    )


def fluorescence(data: Path, out: Path) -> Path:
    """List the first fluorescence images of each split in a data set of their own."""
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
    parameters = sum(parameter.numel() for parameter in trained.learner.network.parameters()) / 1e6
    percent = {name: 100 * numbers.get(name, 0.0) for name in ("AP", "AP50", "AP75", "box_AP", "box_AP50", "AR100")}
    return {"parameters, M": parameters, **percent}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
