"""Score the maps of trained detectors over a split of images, beside maps that know nothing, and write it down.

    python tools/look_scores.py best.pt FOLDER -o benchmarks/results/look-bccd.json

ODAM of the class at the layer before the attention or gate, at the finest layer that the head reads, and (where there
is an attention) the rows of the detection's own cell: deletion and insertion with two fills, and pointing, for the
surest detections of every image. `attngraft.maps.scorecard` does the work; nothing is chosen after the fact.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attngraft import maps
from attngraft.look.images import read_all
from attngraft.maps import Detection
from attngraft.yolo import YOLO
from attngraft.yolo.looking import Watched

SCHEMA = "attngraft.look_scores/1"


def main() -> None:
    """Read the command line, score every model, and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="checkpoints, and last the folder of images")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--detections", type=int, default=3, help="the surest of an image that are scored")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--images", type=int, default=0, help="the first so many; 0 for all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    *models, folder = options.models
    read = read_all(folder)[: options.images or None]
    found = {
        "schema": SCHEMA,
        "date": date.today().isoformat(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
        "data": folder.parent.parent.name + "/" + folder.name,
        "images": len(read),
        "detections_per_image": options.detections,
        "steps": options.steps,
        "models": [score(model, read, options.detections, options.steps) for model in models],
    }
    options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def score(file: Path, read: Sequence[tuple[str, Any]], detections: int, steps: int) -> dict[str, Any]:
    """Return the verdicts on one model."""
    watched = Watched(YOLO(str(file)))
    count = [0]

    def items() -> Iterator[tuple[Tensor, Sequence[Detection], Mapping[str, Sequence[Tensor]]]]:
        for _, image in read:
            tensor = watched.prepare(image).tensor
            found = watched.find(tensor)[0][:detections]
            if found:
                count[0] += len(found)
                yield tensor[0], found, heats(watched, tensor, found)

    verdicts = maps.scorecard(watched.predict, items(), steps=steps)
    return {
        "model": str(watched.network.yaml.get("attngraft") or "baseline"),
        "detections": count[0],
        "verdicts": [verdict.row() for verdict in verdicts],
    }


def heats(watched: Watched, tensor: Tensor, found: Sequence[Detection]) -> dict[str, list[Tensor]]:
    """Return the maps that are scored, by method: one for each detection."""
    with maps.record(watched.network) as tape, torch.no_grad():
        watched.network(tensor)
    grafted = [name for name in (*tape.attentions, *tape.gates) if ".grafts." in name]
    layers = [*watched.layers_before(grafted or list(tape.attentions))[:1], watched.layers[0]]
    odam = maps.odam(watched.network, watched.predict, tensor, [d.target() for d in found], layers)
    size = (int(tensor.shape[2]), int(tensor.shape[3]))
    named = dict(zip(("odam before the mechanism", "odam at the head's finest layer"), layers, strict=True))
    made = {method: [heat + 1e-12 for heat in odam[layer].detach()] for method, layer in named.items()}
    if attentions := [name for name in tape.attentions if ".grafts." in name]:
        attention = tape[attentions[0]]
        grid = attention.grid
        assert grid is not None
        cells = [maps.cell_at(d.place, size, grid) for d in found]
        rows = attention.rows(cells)[0].mean(0)  # (D, N), over heads
        made["attention rows, mean of heads"] = list(rows.reshape(-1, *grid))
    return made


if __name__ == "__main__":
    main()
