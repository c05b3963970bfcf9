"""Train probes with the initial weights of one seed and the order of images of another, to tell which of them counts.

    python studies/probes/starts.py [--mechanisms msla cbam] [--probe relation] [--seeds 3] [--of 0/1]

A run of `attngraft probe` takes both from its seed, and the images are the same at all. Here every pair of two seeds
is trained; those of one seed stand in ``records.jsonl``. Lines are added to ``starts.jsonl``, and what is there is not
trained again; ``--of 0/2`` and ``--of 1/2`` share the pairs between two processes. At the end the accuracies are
printed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from attngraft.probe.instrument import Instrument, ProbeRun, train
from attngraft.probe.ledger import Ledger

FILE = Path(__file__).with_name("starts.jsonl")
MECHANISMS = ("area_attention", "bam", "cbam", "msla")
"""Of those that learn ``relation`` at the first and third seed and not at the second: four that share little."""


def lines() -> list[dict[str, Any]]:
    """Read the lines that are there."""
    return [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.is_file() else []


def accuracies(mechanism: str, probe: str) -> dict[tuple[int, int], float]:
    """Return the accuracy of each pair of seeds, of the weights and of the order, that was trained."""
    known = Ledger(FILE.parent).records()
    one_seed = {
        (run.seed, run.seed): record.accuracy
        for run, record in known.items()
        if (run.mechanism, run.probe, run.control) == (mechanism, probe, False)
    }
    two = [one for one in lines() if (one["mechanism"], one["probe"]) == (mechanism, probe)]
    return one_seed | {(one["weights"], one["order"]): one["accuracy"] for one in two}


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
        run = ProbeRun(mechanism, options.probe, False, order)
        record = train(run, Instrument(), lambda *_: None, start=weights)
        line = {"mechanism": mechanism, "probe": options.probe, "weights": weights, "order": order}
        line |= {"accuracy": record.accuracy, "steps": record.steps, "device": record.device}
        with FILE.open("a") as file:  # one write of one line: processes that share the work do not mix
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)
    for mechanism in options.mechanisms:
        print(table(accuracies(mechanism, options.probe), mechanism, options.probe))


if __name__ == "__main__":
    main()
