"""What is published of probes is what its records say."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from attngraft.probe import opened
from attngraft.probe.markdown import page
from attngraft.probe.tally import SCHEMA

FOLDER = Path(__file__).parents[2] / "studies" / "probes"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the published studies are no part of the package")


def test_the_report_is_that_of_the_records() -> None:
    """Run ``attngraft probe -o studies/probes`` and ``python tools/catalogue.py`` where this fails."""
    found = opened(FOLDER)
    assert (FOLDER / "report.md").read_text(encoding="utf-8") == page(found)
    plain = json.loads(json.dumps({"schema": SCHEMA, **asdict(found)}))
    assert json.loads((FOLDER / "report.json").read_text(encoding="utf-8")) == plain


def test_the_start_counts_and_not_the_order() -> None:
    """What the README says of ``starts.jsonl``, with the runs of one seed from the records."""

    def lines(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]

    starts = lines("starts.jsonl")
    names = {one["mechanism"] for one in starts}
    same = [{**one, "weights": one["seed"], "order": one["seed"]} for one in lines("records.jsonl") if one["seed"] < 3]
    runs = [*starts, *(one for one in same if one["mechanism"] in names and one["probe"] == "relation")]
    runs = [one for one in runs if not one.get("control")]
    assert len(runs) == 9 * len(names)
    learned = {name: [0, 0, 0] for name in names}
    for one in runs:
        learned[one["mechanism"]][one["weights"]] += one["accuracy"] >= 0.9
    assert learned == {"area_attention": [3, 2, 3], "bam": [3, 1, 3], "cbam": [3, 0, 3], "msla": [3, 0, 3]}
