"""Faster R-CNN on BoTNet-50 and ResNet-50 finds blood cells, from scratch: python benchmarks/fit/detect.py data.yaml.

The data set is BCCD in YOLO's layout. The networks are a quarter as wide as the papers' and the images are small, so
that a CPU trains them in minutes. A folder as second word takes the test images with what BoTNet found on them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from table import write

from attngraft.fit import Fit, Trained, load, predict, validate

RECIPE = {
    "epochs": 9,
    "val_every": 3,
    "imgsz": 160,
    "lr": 1e-3,
    "ema": 0.98,
    "workers": 0,
    "model.channels": 64,
    "model.body_options": {"width": 16},
    "model.box_batch_size_per_image": 32,
    "model.rpn_post_nms_top_n_train": 200,
}


def main(data: Path) -> None:
    """Train both, measure before and after, and draw."""
    rows = {}
    with tempfile.TemporaryDirectory() as home:
        for backbone in ("resnet50", "botnet50"):
            run = Fit(f"fasterrcnn_{backbone}", data, out=Path(home) / backbone, **RECIPE).run()
            trained = load(run.folder)
            rows[f"{backbone}, untrained"] = scores(trained.untrained())
            rows[backbone] = scores(trained)
        if len(sys.argv) > 2:
            predict(trained, next(data.parent.glob("images/test")), sys.argv[2])
    write(
        "detect",
        f"BCCD (204 training images of blood cells) at {RECIPE['imgsz']} pixels, from scratch in {RECIPE['epochs']} "
        "epochs with preset `small`: Faster R-CNN on backbones of width 16 instead of 64, one seed. COCO's numbers of"
        " the test split, in per cent, of the weights that were best on the validation split. One seed does not tell "
        "which backbone is better.",
        list(rows["botnet50"]),
        rows,
    )


def scores(trained: Trained) -> dict[str, float]:
    """Measure on the test split."""
    numbers = validate(trained, split="test", workers=0)
    parameters = sum(parameter.numel() for parameter in trained.learner.network.parameters()) / 1e6
    percent = {name: 100 * numbers.get(name, 0.0) for name in ("AP", "AP50", "AP75", "APm", "APl", "AR100")}
    return {"parameters, M": parameters, **percent}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
