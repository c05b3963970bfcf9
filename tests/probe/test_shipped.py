"""What is published of probes is what its records say."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

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
    from studies.probes.starts import MECHANISMS, accuracies

    learned = {}
    for name in MECHANISMS:
        of = {pair: accuracy for pair, accuracy in accuracies(name, "relation").items() if max(pair) < 3}
        assert len(of) == 9
        learned[name] = [sum(of[weights, order] >= 0.9 for order in range(3)) for weights in range(3)]
    assert learned == {"area_attention": [3, 2, 3], "bam": [3, 1, 3], "cbam": [3, 0, 3], "msla": [3, 0, 3]}
