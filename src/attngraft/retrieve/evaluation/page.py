"""The page of an evaluation: one HTML file with its results, styles, script and words in it, that fetches nothing."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

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
        "words": json.loads(_part("words.json")),
        "headline": ["|".join(pair) for pair in HEADLINE],
        "remarks": list(_remarks(results)),
    }
    # "<" could end the script; no other sign means anything there.
    written = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {
        "TITLE": html.escape(results.setting.benchmark),
        "STYLE": _part("page.css"),
        "SCRIPT": _part("page.js"),
        "DATA": written,
    }
    found = _part("page.html")
    for name, text in parts.items():
        before, _, after = found.partition(f"[[{name}]]")
        found = before + text + after
    return found


def _remarks(results: Results) -> Iterator[str]:
    """Yield the remarks that belong to the rows that are there."""
    names = {row.name for row in results.rows}
    if {"joined", "joined-centred"} & names:
        yield "joined"
    if {"tfidf", "bm25"} & names:
        yield "lexical"
    if results.setting.categories:
        yield "chance"


@cache
def _part(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
