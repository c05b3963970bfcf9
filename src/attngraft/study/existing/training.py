"""How runs of Ultralytics that exist already were trained: what they have in common, and what sets arms apart."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

UNTRAINED = frozenset(
    (
        *("cache", "data", "device", "exist_ok", "mode", "model", "name", "plots", "profile", "project", "resume"),
        *("save", "save_dir", "save_period", "seed", "task", "val", "verbose", "workers"),
    )
)
"""Options that are no part of what a run is trained by, or that pairs and arms are told apart by."""
TOLD = ("epochs", "imgsz", "batch")
"""What a paragraph on methods says."""
MOST_TOLD = 6

Arguments = Mapping[str, Mapping[int, Mapping[str, Any]]]
"""The ``args.yaml`` of each arm at each seed."""


def training_options(runs: Arguments) -> dict[str, Any]:
    """Return epochs, image size and batch where all runs have the same; nothing where one of them differs."""
    every = [values for seeds in runs.values() for values in seeds.values()]
    found = {key: every[0].get(key) for key in TOLD}
    same = all(values.get(key) == found[key] for values in every for key in TOLD)
    return found if same and None not in found.values() else {}


def training_notes(runs: Arguments, folders: Mapping[str, Mapping[int, Path]]) -> tuple[str, ...]:
    """Say where runs were trained otherwise than those that they are compared with.

    Args:
        runs: The training options of each run, the baseline's first.
        folders: The folder of each run.

    Returns:
        A sentence on each option that differs, one on runs that stopped early, and one on those that were resumed.
    """
    name, base = next(iter(runs.items()))
    reference = _trained_by(base[min(base)])
    unlike: dict[str, list[str]] = {}
    for arm, seeds in runs.items():
        for seed, values in sorted(seeds.items()):
            for key, value in sorted(_trained_by(values).items()):
                if value != reference.get(key):
                    unlike.setdefault(key, []).append(f"{value} in {arm} at seed {seed}")
    said = [
        f"the runs were not trained alike: {key} is {reference.get(key)} in {name} at seed {min(base)}, "
        f"and {_some(others)}"
        for key, others in unlike.items()
    ]
    early = [
        f"{arm} at seed {seed} after {ran} of {values['epochs']} epochs"
        for arm, seeds in runs.items()
        for seed, values in sorted(seeds.items())
        if (ran := _epochs_run(folders[arm][seed])) and ran < int(values.get("epochs", 0))
    ]
    for arm, seeds in runs.items():
        models = {str(values.get("model")): seed for seed, values in seeds.items() if not values.get("resume")}
        if len(models) > 1:
            each = [f"{model} at seed {seed}" for model, seed in models.items()]
            said.append(f"the runs of {arm} are of different models: {_some(each)}")
    resumed = [
        f"{arm} at seed {seed}" for arm, seeds in runs.items() for seed in sorted(seeds) if seeds[seed].get("resume")
    ]
    said += [f"runs stopped before their last epoch: {_some(early)}"] if early else []
    return tuple(said + ([f"runs were interrupted and resumed: {_some(resumed)}"] if resumed else []))


def _trained_by(values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is no part of the training; ``pretrained`` is one where it names weights, not where it is true."""
    return {
        key: value
        for key, value in values.items()
        if key not in UNTRAINED and not (key == "pretrained" and isinstance(value, bool))
    }


def _epochs_run(folder: Path) -> int:
    """Return the last epoch in ``results.csv``, 0 where there is none."""
    file = folder / "results.csv"
    if not file.is_file():
        return 0
    with file.open(encoding="utf-8", newline="") as lines:
        epochs = [row.get("epoch", "") for row in csv.DictReader(lines, skipinitialspace=True)]
    return int(float(epochs[-1])) if epochs and epochs[-1].replace(".", "").isdigit() else 0


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return ", ".join(names[:MOST_TOLD]) + more
