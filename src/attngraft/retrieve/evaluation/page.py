"""The page of an evaluation: one HTML file with its results, styles, script and words in it, that fetches nothing."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path

from attngraft._core.pages import embedded, filled, part
from attngraft.retrieve.evaluation.results import Results

HERE = Path(__file__).parent
HEADLINE = (
    ("mrag", "standard"), ("mrag", "split"), ("mrag", "joined"), ("mrag-centred", "standard-centred"),
    ("mrag-centred", "joined-centred"), ("joined-centred", "standard-centred"), ("parts", "mrag"), ("mrag", "tfidf"),
)  # fmt: skip
"""Rows and what they are compared with in the list at the top, where both were asked for."""


def page(results: Results) -> str:
    """Return the page of an evaluation."""
    data = {
        "results": results.to_dict(),
        "words": json.loads(part(HERE / "words.json")),
        "headline": ["|".join(pair) for pair in HEADLINE],
        "remarks": list(_remarks(results)),
    }
    return filled(HERE, {"TITLE": html.escape(results.setting.benchmark), "DATA": embedded(data)})


def _remarks(results: Results) -> Iterator[str]:
    """Yield the remarks that belong to the rows that are there."""
    names = {row.name for row in results.rows}
    if {"joined", "joined-centred"} & names:
        yield "joined"
    if {"tfidf", "bm25"} & names:
        yield "lexical"
    if results.setting.categories:
        yield "chance"
