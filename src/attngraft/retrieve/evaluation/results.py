"""What an evaluation came to, computed once and written as ``results.json``; the page is drawn from it alone.

`schema` is its JSON schema: ``attngraft retrieve schema``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from attngraft._core.errors import DataError
from attngraft._core.files import write_text
from attngraft._core.json_text import parse_json
from attngraft._core.schemas import json_schema
from attngraft.retrieve.evaluation.intervals import Interval

SCHEMA = "attngraft.retrieval/1"


@dataclass(frozen=True)
class Setting:
    """What was evaluated, and how.

    Attributes:
        benchmark: Name of the data.
        documents: Documents in the index.
        queries: Queries that have a relevant document.
        unjudged: Queries without one, which are left out.
        categories: Different categories of documents; 0 if the benchmark names none.
        index: What describes the index: model, layers, pooling, prompt.
        heads: Attention heads of a key.
        dim: Numbers of one head's key.
        width: Numbers of the standard key.
        n: Documents that are retrieved, for all figures but the curves.
        depth: Documents that were ranked; the curves end there.
        weight: How many times as much a document counts as a category in the weighted ratio.
        resamples: Resamples of the bootstrap over queries.
        seed: Of the resamples.
        version: Release of attngraft.
    """

    benchmark: str
    documents: int
    queries: int
    unjudged: int
    categories: int
    index: dict[str, Any]
    heads: int
    dim: int
    width: int
    n: int
    depth: int
    weight: float
    resamples: int
    seed: int
    version: str


@dataclass(frozen=True)
class Group:
    """Queries with so many relevant documents (aspects).

    Attributes:
        name: As the table has it: ``all``, ``2-6``, ``10``.
        low: Fewest relevant documents of a query.
        high: Most.
        queries: How many queries there are.
        is_band: Whether differences and curves are given for it, and not only scores.
    """

    name: str
    low: int
    high: int
    queries: int
    is_band: bool


@dataclass(frozen=True)
class Scores:
    """Scores of one row on one group of queries at n documents.

    Attributes:
        group: Name of the group.
        success: Share of the relevant documents that were found (``R@n``).
        category: Share of their categories (``StRecall@n``); none without categories.
        weighted: Both, the first counted ``weight`` times; none without categories.
    """

    group: str
    success: Interval
    category: Interval | None = None
    weighted: Interval | None = None


@dataclass(frozen=True)
class Curve:
    """Means of one row on one group of queries for 1, 2, ... documents.

    Attributes:
        group: Name of the group.
        success: Share of the relevant documents.
        category: Share of their categories; empty without categories.
    """

    group: str
    success: tuple[float, ...]
    category: tuple[float, ...] = ()


@dataclass(frozen=True)
class Row:
    """One way to retrieve.

    Attributes:
        name: What ``rows=`` calls it, or the name of a TREC run file.
        kind: ``chance``, ``key`` (keys of the index), ``words`` (no model) or ``run`` (a file).
        scores: A score for each group.
        curves: A curve for each band.
        further: Means of the measures that ``measures=`` asked for, over all queries.
    """

    name: str
    kind: str
    scores: tuple[Scores, ...]
    curves: tuple[Curve, ...]
    further: dict[str, Interval]

    def on(self, group: str) -> Scores:
        """Return the scores of a group.

        Raises:
            KeyError: If there is no such group.
        """
        return {scores.group: scores for scores in self.scores}[group]


@dataclass(frozen=True)
class Difference:
    """Difference of the success ratios of two rows, with the interval of the paired bootstrap over queries.

    Attributes:
        row: The row.
        other: What it is compared with.
        group: Name of the band.
        success: The difference.
    """

    row: str
    other: str
    group: str
    success: Interval


@dataclass(frozen=True)
class Vote:
    """What one head thought of a document.

    Attributes:
        head: Number of the head, from 0.
        rank: Rank among the head's nearest documents, from 1.
    """

    head: int
    rank: int


@dataclass(frozen=True)
class Found:
    """A document that was found.

    Attributes:
        id: Of the document.
        title: Its title, or its beginning.
        category: Its category; empty without.
        relevant: Whether the query asks for it.
        heads: The heads that voted for it, the best rank first; empty where heads do not vote.
    """

    id: str
    title: str
    category: str
    relevant: bool
    heads: tuple[Vote, ...] = ()


@dataclass(frozen=True)
class Example:
    """A query with what each row found.

    Attributes:
        query: Id of the query.
        text: Its text, cut.
        wanted: The relevant documents.
        found: The first documents of some rows.
    """

    query: str
    text: str
    wanted: tuple[Found, ...]
    found: dict[str, tuple[Found, ...]]


@dataclass(frozen=True)
class Results:
    """What an evaluation came to.

    Attributes:
        setting: What was evaluated, and how.
        groups: The groups of queries.
        rows: The rows, chance first.
        differences: Differences between rows.
        importance: Weight of each head's votes.
        examples: Queries with what was found.
    """

    setting: Setting
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    importance: tuple[float, ...]
    examples: tuple[Example, ...]

    def row(self, name: str) -> Row:
        """Return a row by name.

        Raises:
            KeyError: If there is none.
        """
        return {row.name: row for row in self.rows}[name]

    def difference(self, row: str, other: str, group: str) -> Interval:
        """Return the difference of two rows.

        Raises:
            KeyError: If it was not asked for.
        """
        return {(one.row, one.other, one.group): one.success for one in self.differences}[row, other, group]

    def to_dict(self) -> dict[str, Any]:
        """Return the form that `schema` describes, of plain values only."""
        return {"schema": SCHEMA, **json.loads(_adapter().dump_json(self))}

    def save(self, file: Path) -> Path:
        """Write the results as JSON and return the path."""
        write_text(file, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")
        return file

    @classmethod
    def load(cls, file: Path) -> Results:
        """Read a file that `save` wrote.

        Raises:
            DataError: If it is none, or of another format.
        """
        try:
            values = parse_json(file.read_text(encoding="utf-8"))
            found = values.pop("schema", None)
            results = _adapter().validate_python(values) if found == SCHEMA else None
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise DataError(
                f"{file} holds no results of an evaluation; write it again: attngraft retrieve eval"
            ) from error
        if results is None:
            raise DataError(f"{file} is of the form {found!r}, and this release reads {SCHEMA!r}")
        return results


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of `Results.to_dict`."""
    return json_schema(Results, SCHEMA)


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Results]:
    """Return what reads and writes results; made once, for it takes a while."""
    return TypeAdapter(Results)
