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


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the published studies are no part of the package")
def test_the_report_is_that_of_the_records() -> None:
    """Run ``attngraft probe -o studies/probes`` and ``python tools/catalogue.py`` where this fails."""
    found = opened(FOLDER)
    assert (FOLDER / "report.md").read_text(encoding="utf-8") == page(found)
    plain = json.loads(json.dumps({"schema": SCHEMA, **asdict(found)}))
    assert json.loads((FOLDER / "report.json").read_text(encoding="utf-8")) == plain
