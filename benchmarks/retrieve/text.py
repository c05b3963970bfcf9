"""Evaluate Multi-Head RAG on mrag_wiki from the keys of two small models with learned weights.

    python benchmarks/retrieve/text.py                      # from the keys that are committed: rows of keys, seconds
    python benchmarks/retrieve/text.py --data MRAG_WIKI     # rows of words and of sentences too

``keys.py`` makes the keys. Committed are those of documents and queries, in half precision; those of sentences are not
(``--parts`` names their folder). Without ``--data`` rows that need texts are left out, and nothing is written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from attngraft.retrieve import Item, Keys
from attngraft.retrieve.evaluation import (
    METHODS,
    Benchmark,
    Evaluation,
    Results,
    Subject,
    evaluate_keys,
    read_benchmark,
)
from attngraft.retrieve.rank import PAPER_DEPTH
from attngraft.retrieve.stores.arrays import ArrayStore

HERE = Path(__file__).parent
MODELS = {"smollm2": "SmolLM2-135M-Instruct", "minilm": "all-MiniLM-L6-v2"}
PARTS = ("parts", "parts-mrag", "fusion")
SHOWN = ("1", "2-6", ">=7", "2", "3", "4", "5", "6", "10", "15", "20", "25", "all")
DIFFERENCES = (
    ("mrag", "standard"), ("mrag", "split"), ("mrag", "joined"), ("mrag-centred", "standard-centred"),
    ("mrag-centred", "joined-centred"), ("mrag", "mrag-equal"), ("joined", "standard"),
    ("joined-centred", "standard-centred"),
)  # fmt: skip


def read_keys(file: Path) -> tuple[dict[str, Keys], dict[str, Any]]:
    """Read keys by the name of their group, and what describes them."""
    with safe_open(file, framework="numpy") as stored:
        about = stored.metadata()
        ids = json.loads(about["ids"])
        arrays = {name: stored.get_tensor(name).astype(np.float32) for name in stored.keys()}  # noqa: SIM118 (its own)
    groups = {name: Keys(tuple(of), arrays[f"{name}.heads"], arrays[f"{name}.standard"]) for name, of in ids.items()}
    return groups, json.loads(about["described"])


def wiki() -> Benchmark:
    """Return the benchmark without its texts: which documents a query asks for, and the category of each."""
    stored = json.loads((HERE / "mrag_wiki.json").read_text(encoding="utf-8"))
    documents = {
        f"d{number}": Item(f"d{number}", "", fields={"category": stored["categories"][category]})
        for number, category in enumerate(stored["documents"])
    }
    judged = {query: {f"d{number}": 1 for number in wanted} for query, wanted in stored["queries"].items()}
    return Benchmark("mrag_wiki", documents, tuple(Item(query, "") for query in judged), judged, 0)


def evaluation(model: str, data: Path | None = None, parts: Path | None = None, rows: Sequence[str] = ()) -> Evaluation:
    """Evaluate the keys of a model.

    Args:
        model: One of `MODELS`.
        data: Folder of the texts.
        parts: Folder of the keys of the queries' sentences.
        rows: Rows; by default all for which there is what they need.
    """
    keys, described = read_keys(HERE / f"keys-{model}.safetensors")
    benchmark = wiki() if data is None else read_benchmark(data)
    documents, queries = keys["documents"], keys["queries"]
    store = ArrayStore(documents.heads.shape[1], documents.heads.shape[2], documents.standard.shape[1])
    store.add(documents, [benchmark.documents[name].fields for name in documents.ids])
    names = list(rows) or [
        name
        for name, method in METHODS.items()
        if (data or method.kind != "words") and (parts is not None or name not in PARTS)
    ]

    def part_keys() -> list[Keys]:
        assert parts is not None
        whole = read_keys(parts / f"parts-{model}.safetensors")[0]["parts"]
        of: dict[str, list[int]] = {query: [] for query in queries.ids}
        for row, name in enumerate(whole.ids):
            of[name.rpartition("/")[0]].append(row)
        return [whole.take(found) for found in of.values()]

    return evaluate_keys(Subject(store, benchmark, queries, PAPER_DEPTH, part_keys), names, described=described)


def table(model: str, results: Results) -> str:
    """Write results as Markdown: success by the number of aspects, and paired differences."""
    groups = [group.name for group in results.groups if group.name in SHOWN]
    order = sorted(groups, key=SHOWN.index)
    about = f"Share of a query's documents among the first {results.setting.n}, by the number of aspects, over all "
    lines = [f"## {MODELS[model]}", "", about + "queries, and of their categories over all queries.", "",
             f"| row | {' | '.join(order)} | categories |", f"|---|{'--:|' * (len(order) + 1)}"]  # fmt: skip
    for row in results.rows:
        cells = [f"{row.on(group).success.mean:.3f}" for group in order]
        category = row.on("all").category
        assert category is not None
        lines.append(f"| {row.name} | {' | '.join(cells)} | {category.mean:.3f} |")
    lines += ["", "| difference of documents, paired 95 % interval | 2-6 aspects | 10 and more |", "|---|--:|--:|"]
    for row_name, other in DIFFERENCES:
        cells = [_signed(results.difference(row_name, other, group)) for group in ("2-6", ">=7")]
        lines.append(f"| {row_name} - {other} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _signed(interval: Any) -> str:
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def main() -> None:
    """Read the options, evaluate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder mrag_wiki in the layout of BEIR")
    parser.add_argument("--parts", type=Path, help="folder with parts-MODEL.safetensors, which keys.py writes")
    parser.add_argument("--report", type=Path, help="a folder for a page of each model")
    options = parser.parse_args()
    tables = []
    for model in MODELS:
        has_parts = options.parts and (options.parts / f"parts-{model}.safetensors").is_file()
        done = evaluation(model, options.data, options.parts if has_parts else None)
        if options.report:
            print(done.report(options.report / f"{model}.html"))
        tables.append(table(model, done.results))
        if options.data:
            replace(done.results, examples=()).save(HERE / f"text-{model}.json")
    print("\n".join(tables))
    if options.data:
        head = "# Multi-Head RAG on mrag_wiki\n\nWritten by `text.py`; [README](README.md) says how.\n"
        (HERE / "text.md").write_text("\n".join([head, *tables]), encoding="utf-8")


if __name__ == "__main__":
    main()
