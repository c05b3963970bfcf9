"""Benchmarks in the layout of BEIR: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels.tsv`` or ``qrels/SPLIT.tsv``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attngraft._core.errors import DataError
from attngraft.retrieve.items import Item, read_items

QUERIES, QRELS = "queries.jsonl", "qrels.tsv"


@dataclass(frozen=True)
class Benchmark:
    """Documents, queries, and which documents each query asks for.

    Attributes:
        name: Name of its folder.
        documents: The corpus by id.
        queries: The queries that ask for something, in the order of their file.
        judged: Grade of each relevant document of each query, 1 or more.
        unjudged: How many queries ask for nothing and are left out.
    """

    name: str
    documents: Mapping[str, Item]
    queries: tuple[Item, ...]
    judged: Mapping[str, Mapping[str, int]]
    unjudged: int

    def categories(self, field: str) -> dict[str, str]:
        """Return the category of each document, or nothing unless every document has one.

        Args:
            field: The field that holds it.
        """
        found = {name: item.fields.get(field) for name, item in self.documents.items()}
        return {} if None in found.values() else {name: str(category) for name, category in found.items()}


def read_benchmark(folder: str | Path, split: str = "test") -> Benchmark:
    """Read a benchmark.

    Args:
        folder: Its folder.
        split: Which of ``qrels/SPLIT.tsv`` to take where there is no ``qrels.tsv``.

    Raises:
        DataError: If a file is missing or cannot be read, or qrels name a document or query that is not there.
    """
    home = Path(folder)
    if not home.is_dir():
        raise DataError(f"beir={home} is no folder; give one with corpus.jsonl, {QUERIES} and {QRELS}")
    documents = {item.id: item for item in read_items(home / "corpus.jsonl")}
    queries = {item.id: item for item in read_items(home / QUERIES)}
    judged = _judged(home / QRELS if (home / QRELS).is_file() else home / "qrels" / f"{split}.tsv")
    for query, wanted in judged.items():
        if query not in queries:
            raise DataError(f"the qrels of {home} name query {query}, which {QUERIES} does not have")
        if absent := [name for name in wanted if name not in documents]:
            raise DataError(
                f"the qrels of {home} name document {absent[0]} of query {query}, which is not in the corpus"
            )
    asked = tuple(item for name, item in queries.items() if name in judged)
    return Benchmark(
        home.resolve().name, documents, asked, {item.id: judged[item.id] for item in asked}, len(queries) - len(asked)
    )


def _judged(file: Path) -> dict[str, dict[str, int]]:
    """Read ``query document grade`` lines, a heading before them or not; grades below 1 mean not relevant."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read; qrels are lines of query, document and grade") from error
    found: dict[str, dict[str, int]] = {}
    for number, line in enumerate(lines, start=1):
        cells = line.split("\t")
        heading = number == 1 and len(cells) > 2 and any(sign.isalpha() for sign in cells[-1])
        if heading or not line.strip():
            continue
        try:
            query, document, grade = (cells[0], *cells[-2:])  # TREC's own form has an iteration between
            if int(grade) > 0:
                found.setdefault(query, {})[document] = int(grade)
        except (ValueError, IndexError) as error:
            raise DataError(f"{file}, line {number}: expected query, document and grade, got {line!r}") from error
    if not found:
        raise DataError(f"{file} names no relevant document")
    return found
