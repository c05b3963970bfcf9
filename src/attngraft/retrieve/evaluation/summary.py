"""From rankings to results: scores by the number of aspects, curves, paired differences, and examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from attngraft.retrieve.evaluation import measures
from attngraft.retrieve.evaluation.beir import Benchmark
from attngraft.retrieve.evaluation.intervals import Interval, intervals
from attngraft.retrieve.evaluation.measures import Array
from attngraft.retrieve.evaluation.results import (
    Curve,
    Difference,
    Example,
    Found,
    Group,
    Results,
    Row,
    Scores,
    Setting,
    Vote,
)  # fmt: skip
from attngraft.retrieve.evaluation.rows import PAIRS
from attngraft.retrieve.items import Item
from attngraft.retrieve.rank import Ranked

BANDS = ((1, 1), (2, 6), (7, 10**9))
"""Fewest and most aspects of the bands, the paper's figures being for 1 to 6 and 10 to 25."""
MOST_GROUPS = 12
"""Different numbers of aspects that each get a column; with more of them only the bands do."""
SHOWN = ("standard", "joined-centred", "mrag", "mrag-centred", "parts", "tfidf")
VOTING = ("split", "mrag", "mrag-centred", "mrag-equal", "mrag-rrf")
"""Rows in which heads, or cuts of the standard key, vote: what found a document is shown for them."""
EXAMPLES, LISTED, TITLE, TEXT = 12, 10, 80, 4000
"""Example queries, documents listed of each row, and letters of a title and of a query's text."""


@dataclass(frozen=True)
class Scored:
    """A row before it is scored.

    Attributes:
        name: Of the row.
        kind: ``chance``, ``key``, ``words`` or ``run``.
        found: What it found for each query; none for chance.
    """

    name: str
    kind: str
    found: Mapping[str, Sequence[Ranked]] | None

    def ids(self) -> dict[str, list[str]]:
        """Return the ids for each query."""
        return {query: [hit.id for hit in hits] for query, hits in (self.found or {}).items()}


@dataclass(frozen=True)
class _Values:
    """What one row scores on each query, ``(queries, depth)``."""

    success: Array
    category: Array | None
    further: dict[str, Array]


def summarize(
    setting: Setting,
    benchmark: Benchmark,
    categories: Mapping[str, str],
    rows: Sequence[Scored],
    importance: npt.NDArray[np.float64],
    further: Sequence[str] = (),
) -> Results:
    """Return the results of an evaluation.

    Args:
        setting: What was evaluated, and how.
        benchmark: The documents and queries.
        categories: Category of each document; empty for none.
        rows: What each row found.
        importance: Weight of each head's votes.
        further: Measures of ir_measures besides.

    Raises:
        OptionError: If ir_measures has no such measure.
    """
    values = {row.name: _values(row, setting, benchmark, categories, further) for row in rows}
    aspects = np.array([len(wanted) for wanted in benchmark.judged.values()])
    groups = list(_groups(aspects))
    members = {group.name: (aspects >= group.low) & (aspects <= group.high) for group in groups}
    scores = {group.name: _scores(group.name, values, members[group.name], setting) for group in groups}
    table = tuple(
        Row(
            row.name,
            row.kind,
            tuple(scores[group.name][row.name] for group in groups),
            tuple(_curve(group.name, values[row.name], members[group.name]) for group in groups if group.is_band),
            {name: intervals(of[:, None], seed=setting.seed)[0] for name, of in values[row.name].further.items()},
        )
        for row in rows
    )
    differences = tuple(
        difference
        for group in groups
        if group.is_band
        for difference in _differences(group.name, values, members[group.name], setting)
    )
    weights = tuple(float(weight) for weight in importance)
    return Results(setting, tuple(groups), table, differences, weights, tuple(_examples(benchmark, categories, rows)))


def _values(
    row: Scored, setting: Setting, benchmark: Benchmark, categories: Mapping[str, str], further: Sequence[str]
) -> _Values:
    judged, depth = benchmark.judged, setting.depth
    if row.found is None:
        category = measures.category_chance(judged, categories, depth) if categories else None
        return _Values(measures.chance(judged, setting.documents, depth), category, {})
    ids = row.ids()
    return _Values(
        measures.success(judged, ids, depth),
        measures.category_success(judged, ids, categories, depth) if categories else None,
        {name: measures.further(name, judged, ids) for name in further},
    )


def _groups(aspects: npt.NDArray[np.int64]) -> Iterator[Group]:
    """Yield the groups of queries: all, the bands that have some, and each number of aspects where they are few."""
    yield Group("all", int(aspects.min()), int(aspects.max()), len(aspects), True)
    for low, high in BANDS:
        inside = aspects[(aspects >= low) & (aspects <= high)]
        if len(inside):
            name = str(low) if low == high else f"{low}-{high}" if high < BANDS[-1][1] else f">={low}"
            yield Group(name, low, int(min(high, inside.max())), len(inside), True)
    numbers = [number for number in np.unique(aspects).tolist() if number > 1]
    if len(numbers) <= MOST_GROUPS:
        yield from (Group(str(k), k, k, int((aspects == k).sum()), False) for k in numbers)


def _scores(
    group: str, values: Mapping[str, _Values], member: npt.NDArray[np.bool_], setting: Setting
) -> dict[str, Scores]:
    """Return the scores of every row on a group, all intervals from the same resamples."""
    at = setting.n - 1
    columns: list[Array] = []
    for of in values.values():
        columns.append(of.success[member, at])
        if of.category is not None:
            columns.append(of.category[member, at])
            columns.append(measures.weighted(columns[-2], columns[-1], setting.weight))
    found = iter(intervals(np.stack(columns, axis=1), seed=setting.seed, resamples=setting.resamples))
    return {
        name: Scores(group, next(found), *((next(found), next(found)) if of.category is not None else ()))
        for name, of in values.items()
    }


def _curve(group: str, of: _Values, member: npt.NDArray[np.bool_]) -> Curve:
    category = () if of.category is None else tuple(of.category[member].mean(0).tolist())
    return Curve(group, tuple(of.success[member].mean(0).tolist()), category)


def _differences(
    group: str, values: Mapping[str, _Values], member: npt.NDArray[np.bool_], setting: Setting
) -> list[Difference]:
    at = setting.n - 1
    pairs = [(row, other) for row, other in PAIRS if row in values and other in values]
    if not pairs:
        return []
    columns = [values[row].success[member, at] - values[other].success[member, at] for row, other in pairs]
    found: list[Interval] = intervals(np.stack(columns, axis=1), seed=setting.seed, resamples=setting.resamples)
    return [Difference(row, other, group, interval) for (row, other), interval in zip(pairs, found, strict=True)]


def _examples(benchmark: Benchmark, categories: Mapping[str, str], rows: Sequence[Scored]) -> Iterator[Example]:
    """Yield queries spread over the numbers of aspects, the first of each number before the second of any."""
    by_number: dict[int, list[Item]] = {}
    for query in benchmark.queries:
        by_number.setdefault(len(benchmark.judged[query.id]), []).append(query)
    turns = [(turn, number, query) for number, of in by_number.items() for turn, query in enumerate(of)]
    picked = sorted(turns, key=lambda one: one[:2])[:EXAMPLES]
    # Rows of files come last, and only where too few of ours are there.
    shown = [row for row in rows if row.found is not None and row.name in SHOWN]
    shown = shown or [row for row in rows if row.found is not None][: len(SHOWN)]
    for _, _, query in sorted(picked, key=lambda one: one[1]):
        wanted = benchmark.judged[query.id]
        yield Example(
            query.id,
            (query.text or str(query.path))[:TEXT],
            tuple(_described(Ranked(name, 0.0, ()), benchmark, categories, wanted) for name in wanted),
            {
                row.name: tuple(
                    _described(hit, benchmark, categories, wanted, votes=row.name in VOTING)
                    for hit in (row.found or {})[query.id][:LISTED]
                )
                for row in shown
            },
        )


def _described(
    hit: Ranked,
    benchmark: Benchmark,
    categories: Mapping[str, str],
    wanted: Mapping[str, int],
    *,
    votes: bool = False,
) -> Found:
    by_head = tuple(Vote(one.head, one.rank + 1) for one in hit.by_head) if votes else ()
    title = _title(benchmark.documents[hit.id])
    return Found(hit.id, title, categories.get(hit.id, ""), hit.id in wanted, by_head)


def _title(item: Item) -> str:
    """Return the title of a document, else the beginning of its text or the name of its file."""
    text = str(item.fields.get("title") or item.text or item.path or item.id).strip()
    return text if len(text) <= TITLE else text[: TITLE - 1] + "…"
