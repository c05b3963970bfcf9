"""Faster R-CNN on BoTNet-50 finds blood cells, from scratch: python studies/fit/detect.py data.yaml.

The data set is BCCD in YOLO's layout. The network is a quarter as wide as the paper's and the pictures are small, so
that a CPU trains it in minutes. A folder as second word takes the test pictures with what was found on them.
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
    """Train, measure before and after, and draw."""
    with tempfile.TemporaryDirectory() as home:
        run = Fit("fasterrcnn_botnet50", data, out=Path(home) / "run", **RECIPE).run()
        trained = load(run.folder)
        rows = {"untrained": scores(trained.untrained()), f"{RECIPE['epochs']} epochs": scores(trained)}
        if len(sys.argv) > 2:
            predict(trained, next(data.parent.glob("images/test")), sys.argv[2])
    write(
        "detect",
        f"BCCD (204 training pictures of blood cells) at {RECIPE['imgsz']} pixels, from scratch in {RECIPE['epochs']} "
        "epochs with preset `small`: Faster R-CNN on a BoTNet-50 of width 16 instead of 64, one seed. COCO's numbers of"
        " the test split, in per cent, of the weights that were best on the validation split.",
        list(rows["untrained"]),
        rows,
    )


def scores(trained: Trained) -> dict[str, float]:
    """Measure on the test split."""
    numbers = validate(trained, split="test", workers=0)
    return {name: 100 * numbers.get(name, 0.0) for name in ("AP", "AP50", "AP75", "APm", "APl", "AR100")}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
