"""BoTNet-50 beside ResNet-50 on fruit and vegetables: python benchmarks/fit/classify.py DATA.

DATA is the Grocery Store set in folders train, val and test of a folder a class, with classes.csv that names the coarse
class of each. One seed cannot tell the two apart; it shows that both learn, and what an untrained network scores.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

from table import write

from attngraft.fit import Fit, Trained, load, validate

DRINKS = ("Juice", "Milk", "Yoghurt", "Soyghurt", "Oatghurt", "Soy-Milk", "Oat-Milk", "Sour-Cream", "Sour-Milk")
RECIPE = {"epochs": 8, "batch": 32, "imgsz": 48, "ema": 0.99, "workers": 0, "seed": 0, "model.width": 16}


def main(data: Path) -> None:
    """Train both and write the table."""
    rows = {}
    with tempfile.TemporaryDirectory() as home:
        fresh = coarse(data, Path(home) / "data")
        for model in ("resnet50", "botnet50"):
            run = Fit(model, fresh, out=Path(home) / model, **RECIPE).run()
            trained = load(run.folder)
            rows[f"{model}, untrained"] = scores(trained.untrained())
            rows[model] = scores(trained)
    write(
        "classify",
        f"Fruit and vegetables of the Grocery Store data set ({len(trained.classes)} coarse classes, 48 pixels), from "
        f"scratch in {RECIPE['epochs']} epochs with preset `small` and networks a quarter as wide as the papers', one "
        "seed. Scores on the test split, in per cent, of the weights that were best on the validation split. One seed "
        "does not tell which network is better.",
        ["parameters, M", "top-1", "top-5"],
        rows,
    )


def scores(trained: Trained) -> dict[str, float]:
    """Measure on the test split."""
    numbers = validate(trained, split="test", workers=0)
    parameters = sum(parameter.numel() for parameter in trained.learner.network.parameters()) / 1e6
    return {"parameters, M": parameters, "top-1": 100 * numbers["top1"], "top-5": 100 * numbers["top5"]}


def coarse(data: Path, out: Path) -> Path:
    """Link the images of fruit and vegetables into folders of their coarse classes."""
    with (data / "classes.csv").open(encoding="utf-8") as file:
        classes = {row["fine"]: row["coarse"] for row in csv.DictReader(file) if row["coarse"] not in DRINKS}
    for picture in data.glob("*/*/*.jpg"):
        split, fine = picture.parts[-3:-1]
        if fine in classes:
            link = out / split / classes[fine] / f"{fine}-{picture.name}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(picture.resolve())
    return out


if __name__ == "__main__":
    main(Path(sys.argv[1]))
