"""What each arm costs, timed in interleaved rounds; the work of ``python -m attngraft.study.running.costs``.

The models are fused as for deployment and run on one image, on the plan's device, without the non-maximum suppression
that follows a detector.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from attngraft._core.files import write_text
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.layout import COSTS
from attngraft.study.running.records import Run, Store
from attngraft.study.running.run import device_of, environment

ROUNDS = 40


def main(folder: Path) -> None:
    """Measure every arm and write ``costs.json``."""
    import torch

    from attngraft.measure import measure
    from attngraft.yolo.options import data_channels
    from attngraft.yolo.step import network, parameters

    frozen = FrozenPlan.read(folder)
    store = Store(folder)
    side = int(frozen.plan.train["imgsz"])
    device = device_of(frozen.plan)
    lasts = {arm.name: store.training(Run(arm, frozen.plan.first_seed)) / "weights" / "last.pt" for arm in frozen.arms}
    kept: dict[str, Any] = {name: network(last) for name, last in lasts.items() if last.is_file()}
    some = next(iter(kept.values()), None)
    channels = data_channels(frozen.plan.data) if some is None else some.yaml.get("channels", 3)
    models, trained = {}, {}
    for arm in frozen.arms:
        models[arm.name] = (kept[arm.name] if arm.name in kept else network(arm.model, channels)).to(device)
        trained[arm.name] = parameters(str(lasts[arm.name] if arm.name in kept else arm.model))
    image = torch.rand(1, channels, side, side, device=device)
    report = measure(models, image, train=False, rounds=ROUNDS).to_dict()
    rows: list[dict[str, Any]] = report["measurements"]
    for row in rows:
        row["trained_parameters"] = trained[row["name"]]
    write_text(folder / COSTS, json.dumps(report))


def measure_costs(store: Store) -> dict[str, Any]:
    """Measure what each arm costs, side by side on this machine, once in a study's life.

    A process of its own, so that its threads and its memory are its own. Where it fails, ``costs.json`` says why, for
    the report, and the next call measures again.
    """
    file = store.folder / COSTS
    if "error" in _read(file, {"error": ""}):
        words = [sys.executable, "-m", "attngraft.study.running.costs", str(store.folder)]
        done = subprocess.run(words, env=environment(store.folder), capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or f"its process ended with code {done.returncode}").splitlines()[-1]
            write_text(file, json.dumps({"error": f"costs could not be measured: {last}", "measurements": []}))
    return _read(file, {})


def _read(file: Path, without: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else without
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
