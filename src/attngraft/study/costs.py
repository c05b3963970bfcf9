"""What each arm of a study costs, timed in turns on one machine; the work of ``python -m attngraft.study.costs``.

The models are fused as for deployment and run on one picture, on the plan's device, without the search for duplicates
that follows a detector.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from attngraft._core.files import write_text
from attngraft.measure import measure
from attngraft.study.plan import Fixed
from attngraft.study.records import Run, Store
from attngraft.yolo.training import network, parameters

ROUNDS = 40


def main(folder: Path) -> None:
    """Measure every arm and write ``costs.json``."""
    fixed = Fixed.read(folder)
    store = Store(folder)
    side = int(fixed.plan.train["imgsz"])
    device = "cuda" if torch.cuda.is_available() and fixed.plan.train.get("device") != "cpu" else "cpu"
    models, trained = {}, {}
    for arm in fixed.arms:
        last = store.training(Run(arm, fixed.plan.first_seed)) / "weights" / "last.pt"
        models[arm.name] = network(last if last.is_file() else arm.model).to(device)
        trained[arm.name] = parameters(str(last) if last.is_file() else arm.model)
    report = measure(models, torch.rand(1, 3, side, side, device=device), train=False, rounds=ROUNDS).to_dict()
    rows: list[dict[str, Any]] = report["measurements"]
    for row in rows:
        row["trained_parameters"] = trained[row["name"]]
    write_text(folder / "costs.json", json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
