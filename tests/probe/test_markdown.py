"""The report says what was run and, as plainly, what was not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from attngraft.probe.instrument import Instrument
from attngraft.probe.markdown import learned, page, write
from attngraft.probe.tally import tally
from tests.probe.conftest import Make


def test_gaps_are_said(made: Make) -> None:
    records = [
        made(mechanism="none", accuracy=0.62, steps=None),
        made(),
        made(seed=1, accuracy=0.55, steps=None),
        made(probe="count"),
        made(control=True),
    ]
    said = page(tally(Instrument(), records))
    assert "| `mhsa` | 100 | 1/2 .77 | 1/1 .98 |" in said
    assert "| `none` | 100 | 0/1 .62 | not run |" in said
    assert "| `mhsa` | 1/1 .98 | not run |" in said.partition("## Controls")[2]
    assert "5 runs" in said
    rates = said.partition("## Rate of learning and AP50")[2].partition("##")[0]
    assert "| `mhsa` | 1–99 %, 99.0 | 2–100 %, 99.0 |" in rates  # one seed of two, and one of one
    assert "| `none` | 0–98 %, 99.0 | – |" in rates


def test_a_sentence_has_the_interval(made: Make) -> None:
    mechanism = tally(Instrument(), [made(seed=seed) for seed in range(8)]).mechanism("mhsa")
    assert learned(mechanism, mechanism.scores[0]) == (
        "mhsa learned reach at 8 of 8 seeds (63–100 %), after 250 steps; accuracy 0.98, AP50 99.0"
    )


def test_report_numbers_and_figure_are_written_and_replaced(tmp_path: Path, made: Make) -> None:
    found = tally(Instrument(), [made(mechanism="none", accuracy=0.5), made()])
    for _ in range(2):
        files = write(found, tmp_path)
    assert [file.name for file in files] == ["report.md", "report.json", "figure.png"]
    assert json.loads(files[1].read_text())["mechanisms"][1]["name"] == "mhsa"
    pixels = np.asarray(Image.open(files[2]).convert("RGB"))
    assert pixels.std() > 5
