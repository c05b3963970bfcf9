"""Train probes with the initial weights of one seed and the order of images of another, to tell which of them counts.

    python studies/probes/starts.py [--mechanisms msla cbam] [--probe relation] [--seeds 3] [--of 0/1]

A run of `attngraft probe` takes both from its seed, and the images are the same at all. Here every pair of two seeds
is trained; those of one seed stand in ``records.jsonl``. Lines are added to ``starts.jsonl``, and what is there is not
trained again; ``--of 0/2`` and ``--of 1/2`` share the pairs between two processes. At the end the accuracies are
printed.
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from attngraft.probe import instrument as probing

FILE = Path(__file__).with_name("starts.jsonl")
RECORDS = Path(__file__).with_name("records.jsonl")
MECHANISMS = ("area_attention", "bam", "cbam", "msla")
"""Of those that learn ``relation`` at the first and third seed and not at the second: four that share little."""


def start(mechanism: str, probe: str, weights: int, order: int, settings: probing.Instrument) -> dict[str, Any]:
    """Train a mechanism on a probe, and return the line of it.

    Args:
        mechanism: As recipes write it.
        probe: Name of a probe.
        weights: Seed of the initial weights.
        order: Seed of the order of the images and their flips.
        settings: Of the instrument.
    """
    detector = functools.partial(_seeded, probing.ArrayDetector, weights)
    with mock.patch.object(probing, "ArrayDetector", detector):
        record = probing.train(probing.ProbeRun(mechanism, probe, False, order), settings, lambda *_: None)
    found = {"mechanism": mechanism, "probe": probe, "weights": weights, "order": order}
    return found | {"accuracy": record.accuracy, "steps": record.steps, "device": record.device}


def _seeded(kind: Any, weights: int, *arguments: Any, **options: Any) -> Any:
    return kind(*arguments, **{**options, "seed": weights})


def lines(file: Path) -> list[dict[str, Any]]:
    """Read the lines of a file; none where it is not there."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def accuracies(mechanism: str, probe: str) -> dict[tuple[int, int], float]:
    """Return the accuracy of each pair of seeds, of the weights and of the order, that was trained."""
    one_seed = [{**one, "weights": one["seed"], "order": one["seed"]} for one in lines(RECORDS) if not one["control"]]
    both = [one for one in [*one_seed, *lines(FILE)] if (one["mechanism"], one["probe"]) == (mechanism, probe)]
    return {(one["weights"], one["order"]): one["accuracy"] for one in both}


def table(of: dict[tuple[int, int], float], mechanism: str, probe: str) -> str:
    """Lay out accuracies: a row for each seed of the weights, a column for each seed of the order."""
    seeds = sorted({seed for pair in of for seed in pair})
    rows = [[f"{of[w, o]:.2f}" if (w, o) in of else "–" for o in seeds] for w in seeds]
    head = f"{mechanism} on {probe}: rows are seeds of the weights, columns seeds of the order"
    return "\n".join([head, *("  ".join(row) for row in rows)])


def main() -> None:
    """Read the options, train what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mechanisms", nargs="+", default=MECHANISMS)
    parser.add_argument("--probe", default="relation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--of", default="0/1", help="which share of the pairs to train")
    options = parser.parse_args()
    torch.set_num_threads(1)
    part, parts = map(int, options.of.split("/"))
    seeds = range(options.seeds)
    pairs = [(m, w, o) for m in options.mechanisms for w in seeds for o in seeds if w != o]
    for mechanism, weights, order in pairs[part::parts]:
        if (weights, order) in accuracies(mechanism, options.probe):
            continue
        line = start(mechanism, options.probe, weights, order, probing.Instrument())
        with FILE.open("a") as file:  # one write of one line: processes that share the work do not mix
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)
    for mechanism in options.mechanisms:
        print(table(accuracies(mechanism, options.probe), mechanism, options.probe))


if __name__ == "__main__":
    main()
