"""What a ranking is worth: the share of a query's documents, and of their categories, among the first n.

Both ratios are the paper's (Besta et al., Multi-Head RAG, section 4) under the names of the field: the retrieval
success ratio is recall, ``R@n`` of ir_measures, and the category ratio is subtopic recall, ``StRecall@n`` with every
document of a wanted category relevant to it. Recall and every further measure come from ir_measures; subtopic recall is
computed here, because pyndeval, which ir_measures hands it to, stops at n = 20 (a test compares the two up to there).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from attngraft._core.errors import OptionError
from attngraft._core.extras import extra_package

if TYPE_CHECKING:
    from types import ModuleType

Array: TypeAlias = npt.NDArray[np.float64]
Rankings: TypeAlias = Mapping[str, Sequence[str]]
"""Ids of the documents that were found for each query, the best first."""
Judgements: TypeAlias = Mapping[str, Mapping[str, int]]
"""Grade of each relevant document of each query, 1 or more: qrels."""


def success(judged: Judgements, found: Rankings, depth: int) -> Array:
    """Return the share of each query's relevant documents among the first n.

    Args:
        judged: The relevant documents.
        found: The rankings.
        depth: The largest n.

    Shape:
        ``(queries, depth)``: queries in the order of ``judged``; column n - 1 is ``R@n``.
    """
    library = _library()
    values = _values([library.R @ n for n in range(1, depth + 1)], judged, found)
    return np.stack(values, axis=1)


def further(name: str, judged: Judgements, found: Rankings) -> Array:
    """Return any measure of ir_measures for each query.

    Args:
        name: As ir_measures writes it, such as ``nDCG@10`` or ``RR``.
        judged: The relevant documents.
        found: The rankings.

    Raises:
        OptionError: If ir_measures has no such measure.
    """
    return _values([measure(name)], judged, found)[0]


def measure(name: str) -> Any:
    """Return a measure of ir_measures by its name.

    Raises:
        OptionError: If ir_measures has no such measure.
    """
    try:
        return _library().parse_measure(name)
    except (NameError, ValueError, SyntaxError, TypeError) as error:
        raise OptionError(f"measures= takes names of ir_measures such as nDCG@10 or RR, got {name!r}") from error


def category_success(judged: Judgements, found: Rankings, categories: Mapping[str, str], depth: int) -> Array:
    """Return the share of the categories of each query's relevant documents that the first n documents have.

    Args:
        judged: The relevant documents.
        found: The rankings.
        categories: Category of each document.
        depth: The largest n.

    Shape:
        ``(queries, depth)``: column n - 1 is ``StRecall@n``.
    """
    values = np.zeros((len(judged), depth))
    for row, (query, wanted) in zip(values, judged.items(), strict=True):
        names = {categories[document] for document in wanted}
        reached: set[str] = set()
        for rank, document in enumerate(found.get(query, ())[:depth]):
            if categories[document] in names - reached:
                reached.add(categories[document])
                row[rank:] += 1 / len(names)
    return values


def weighted(documents: Array, categories: Array, weight: float) -> Array:
    """Return the paper's weighted ratio: documents count ``weight`` times as much as categories."""
    return (weight * documents + categories) / (weight + 1)


def chance(judged: Judgements, documents: int, depth: int) -> Array:
    """Return what documents drawn at random without replacement would score on `success`, in closed form.

    Args:
        judged: The relevant documents.
        documents: How many documents there are to draw from.
        depth: The largest n.

    Shape:
        ``(queries, depth)``: the share n / documents, the same for every query.
    """
    return np.tile(np.minimum(np.arange(1, depth + 1) / documents, 1.0), (len(judged), 1))


def category_chance(judged: Judgements, categories: Mapping[str, str], depth: int) -> Array:
    """Return what documents drawn at random without replacement would score on `category_success`, in closed form.

    A category of m among N documents is met by n draws with probability 1 - C(N - m, n) / C(N, n): 0.561 for 20 of 25
    equal categories of 50, which is above some published scores.

    Args:
        judged: The relevant documents.
        categories: Category of each document that may be drawn.
        depth: The largest n.

    Shape:
        ``(queries, depth)``.
    """
    names, sizes = np.unique(list(categories.values()), return_counts=True)
    missed = np.ones((len(names), depth))
    left = np.maximum(len(categories) - np.arange(depth), 1)
    for row, size in zip(missed, sizes, strict=True):
        row[:] = np.cumprod(np.maximum(len(categories) - size - np.arange(depth), 0) / left)
    met = dict(zip(names.tolist(), 1 - missed, strict=True))
    return np.stack([
        np.mean([met[name] for name in sorted({categories[document] for document in wanted})], axis=0)
        for wanted in judged.values()
    ])  # fmt: skip


def _values(measures: Sequence[Any], judged: Judgements, found: Rankings) -> list[Array]:
    """Return the values of measures for each query, 0 where nothing was found."""
    place = {query: row for row, query in enumerate(judged)}
    column = {one: index for index, one in enumerate(measures)}
    values = np.zeros((len(measures), len(judged)))
    # Scores that fall by rank: what ties mean is decided before, by whoever ranked.
    scored = {query: {document: -float(rank) for rank, document in enumerate(found.get(query, ()))} for query in judged}
    grades = {query: dict(wanted) for query, wanted in judged.items()}
    for metric in _library().iter_calc(measures, grades, scored):
        values[column[metric.measure], place[metric.query_id]] = metric.value
    return list(values)


def _library() -> ModuleType:
    return extra_package("ir_measures", "retrieve")
