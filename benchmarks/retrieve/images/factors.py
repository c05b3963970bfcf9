"""Find images that share factors with a query, by the heads of a detector that was trained to tell one of them.

    python benchmarks/retrieve/images/factors.py --kept FOLDER [--seeds 3] [--out FILE] [--figure FILE]
    python benchmarks/retrieve/images/factors.py --quick     few images, untrained detectors, nothing written

Images are `attngraft.data.factors`: colour, shape, count, corner and texture, drawn independently. The detector
(`detectors.py`) learns shape, or colour; an untrained one is the control of both. An image is relevant to a query if it
shares at least 3 of 5 factors, and graded by how many. The probe asks each head alone: how much do the values of a
query's factor tell of that factor in the 20 images that the head finds nearest? It is mutual information over the
factor's entropy: 0 for heads that do not see the factor, 1 for heads that find nothing but its value.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _rows import RESULTS, all_keys, by_parts, case, nearest, rankings, show, spaces, write
from detectors import RECIPE, RULES, factor_detector
from numpy.typing import NDArray

from attngraft import data
from attngraft.data.factor_scenes import FACTORS
from attngraft.retrieve import ImageEncoder, Item, Keys
from attngraft.retrieve.evaluation.measures import further
from attngraft.yolo import YOLO

DEPTH, SHARED = 20, 3
SCENES = 200
"""Seed of the images that are searched; detectors were trained on another's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", type=Path, help="where trained detectors are kept for the next call")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS / "factors.json")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--quick", action="store_true", help="few images, untrained detectors, nothing written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        options.seeds, options.documents, options.queries = 1, 60, 6
    elif options.kept is None:
        parser.error("--kept is needed, or --quick")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "scenes")
        data.factors(place, train=options.documents, val=options.queries, seed=SCENES)
        lines = [json.loads(line) for line in (place / "factors.jsonl").read_text().splitlines()]
        values = np.array([[names.index(line[f]) for f, names in FACTORS.items()] for line in lines])
        items = [Item(line["image"], path=place / line["image"]) for line in lines]
        cases, probes = benchmark(options, items, values)
    show(cases)
    report(probes)
    if options.figure:
        draw(probes, options.figure)
    if not options.quick:
        settings = {"recipe": RECIPE, "documents": options.documents, "queries": options.queries, "depth": DEPTH}
        write("factors.py", options.out, settings, cases, probes=probes)


def benchmark(
    options: argparse.Namespace, items: list[Item], values: NDArray[np.int64]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a case for each rule, and the probe of each detector."""
    count = options.documents
    shared = (values[count:, None] == values[None, :count]).sum(2)  # (Q, N)
    cases, probes = [], []
    for rule in ("untrained",) if options.quick else (*RULES, "untrained"):
        found: dict[str, dict[str, list[Any]]] = {}
        for seed in range(options.seeds):
            encoder = ImageEncoder(_detector(options, rule, seed), imgsz=96, batch=64)
            documents, queries = all_keys(encoder, items[:count]), all_keys(encoder, items[count:])
            rows = rankings(documents, queries, DEPTH)
            if rule != "untrained":
                cut = [all_keys(encoder, encoder.parts(item, "crops")) for item in items[count:]]
                rows |= by_parts(documents, cut, DEPTH)
            random = np.random.default_rng(seed)
            rows = {"chance": np.array([random.permutation(count)[:DEPTH] for _ in queries.ids]), **rows}
            for row, ranked in rows.items():
                for measure, numbers in measured(ranked, shared).items():
                    found.setdefault(measure, {}).setdefault(row, []).append(numbers)
            probes.append({"rule": rule, "seed": seed, **probe(documents, queries, values[:count], values[count:])})
        cases.append(case(rule, {name: {row: np.array(v) for row, v in rows.items()} for name, rows in found.items()}))
    return cases, probes


def _detector(options: argparse.Namespace, rule: str, seed: int) -> Any:
    if rule != "untrained":
        return factor_detector(options.kept, rule, seed)
    torch.manual_seed(seed)
    return YOLO(RECIPE)


def measured(ranked: NDArray[np.int64], shared: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return nDCG, precision, and how many factors are shared, of each query."""
    grades = np.take_along_axis(shared, ranked, 1)  # (Q, depth)
    judged = {
        f"q{query}": {f"d{at}": int(row[at]) for at in np.flatnonzero(row >= SHARED)}
        for query, row in enumerate(shared)
    }
    found = {f"q{query}": [f"d{at}" for at in row] for query, row in enumerate(ranked)}
    return {
        "nDCG@20": np.array(further("nDCG@20", judged, found)),
        "precision@20": (grades >= SHARED).mean(1),
        "precision@5": (grades[:, :5] >= SHARED).mean(1),
        "shared factors@20": grades.mean(1),
    }


def probe(
    documents: Keys, queries: Keys, of_documents: NDArray[np.int64], of_queries: NDArray[np.int64]
) -> dict[str, Any]:
    """Return what each head's nearest images tell of each factor, beside the keys of all heads and chance."""
    of_document, of_query = spaces(documents, documents), spaces(queries, documents)
    told = {}
    for row in ("mrag-centred", "joined-centred", "standard-centred"):
        near, _ = nearest(of_document[row][0], of_query[row][0], DEPTH)  # (Q, heads, depth)
        told[row] = [
            [round(information(of_queries[:, f], of_documents[near[:, head], f], len(names)), 4)
             for f, names in enumerate(FACTORS.values())]
            for head in range(near.shape[1])
        ]  # fmt: skip
    random = np.random.default_rng(0).integers(0, len(of_documents), (len(of_queries), DEPTH))
    chance = [
        round(information(of_queries[:, f], of_documents[random, f], len(names)), 4)
        for f, names in enumerate(FACTORS.values())
    ]
    names = {"mrag-centred": "heads", "joined-centred": "joined", "standard-centred": "standard"}
    return {"factors": list(FACTORS), **{names[row]: found for row, found in told.items()}, "chance": chance}


def information(of_query: NDArray[np.int64], of_near: NDArray[np.int64], values: int) -> float:
    """Return the mutual information of a query's value and those of its nearest images, over the value's entropy.

    Args:
        of_query: ``(Q,)``.
        of_near: ``(Q, depth)``.
        values: How many values there are.
    """
    table = np.zeros((values, values))
    np.add.at(table, (np.repeat(of_query, of_near.shape[1]), of_near.ravel()), 1)
    table /= table.sum()
    rows, columns = table.sum(1, keepdims=True), table.sum(0, keepdims=True)
    seen = table > 0
    shared = (table[seen] * np.log(table[seen] / (rows * columns)[seen])).sum()
    entropy = -(rows[rows > 0] * np.log(rows[rows > 0])).sum()
    return float(shared / entropy)


def report(probes: list[dict[str, Any]]) -> None:
    for one in probes:
        print(f"\n{one['rule']}, seed {one['seed']}" + "".join(f"{name:>10}" for name in one["factors"]))
        rows = [*((f"head {head}", row) for head, row in enumerate(one["heads"])), ("joined", one["joined"][0]),
                ("standard", one["standard"][0]), ("chance", one["chance"])]  # fmt: skip
        for name, row in rows:
            print(f"{name:16}" + "".join(f"{value:10.3f}" for value in row))


def draw(probes: list[dict[str, Any]], file: Path) -> None:
    """Draw heads by factors for the first seed of each rule."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    first = [one for one in probes if one["seed"] == 0]
    figure, axes = pyplot.subplots(1, len(first), figsize=(4.1 * len(first), 4.4), squeeze=False)
    for axis, one in zip(axes[0], first, strict=True):
        rows = np.array([*one["heads"], one["joined"][0], one["standard"][0]])
        axis.imshow(rows, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axis.set_xticks(range(len(one["factors"])), one["factors"], rotation=30, ha="right")
        names = [*(f"head {head}" for head in range(len(one["heads"]))), "joined", "standard"]
        axis.set_yticks(range(len(names)), names)
        axis.axhline(len(one["heads"]) - 0.5, color="white", linewidth=2)
        for (y, x), value in np.ndenumerate(rows):
            axis.text(
                x, y, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.6 else "white", fontsize=8
            )
        axis.set_title("untrained" if one["rule"] == "untrained" else f"trained to tell {one['rule']}", fontsize=11)
    figure.suptitle("What the 20 nearest images of each head tell of each factor (0 nothing, 1 all)", fontsize=11)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110, metadata={"Software": "benchmarks/retrieve/images/factors.py"})
    print(f"{file} written")


if __name__ == "__main__":
    main()
