"""The rows of an evaluation: every way to rank the documents of an index, the controls of MRAG among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from attngraft._core.errors import OptionError, suggest
from attngraft.retrieve.evaluation import lexical
from attngraft.retrieve.evaluation.beir import Benchmark
from attngraft.retrieve.keys import Keys
from attngraft.retrieve.rank import Ranked, fuse, vote
from attngraft.retrieve.spaces import unit
from attngraft.retrieve.stores import Space, Store

Found = list[list[Ranked]]
"""What was found for each query, the best first."""

POOL = 5
"""Documents that MMR chooses from, as a multiple of those it ranks."""
RELEVANCE = 0.5
"""Share of relevance, against novelty, in MMR."""


@dataclass(frozen=True)
class Subject:
    """What is ranked, and for which queries.

    Attributes:
        store: The keys of the documents.
        benchmark: The documents and queries.
        queries: Keys of the queries, in the order of the benchmark.
        depth: How many documents to rank; every head votes so deep.
        parts: Makes the keys of each query's parts, in the order of the queries.
    """

    store: Store
    benchmark: Benchmark
    queries: Keys
    depth: int
    parts: Callable[[], Sequence[Keys]]

    @cached_property
    def part_keys(self) -> Sequence[Keys]:
        """Keys of the parts of each query, made when they are first asked for."""
        return self.parts()

    @cached_property
    def words(self) -> tuple[list[str], list[str]]:
        """The texts of documents and queries.

        Raises:
            OptionError: If they are images.
        """
        corpus = [self.benchmark.documents[name] for name in self.store.ids]
        texts = [[item.text for item in items] for items in (corpus, self.benchmark.queries)]
        if any(text is None for column in texts for text in column):
            raise OptionError("tfidf and bm25 compare words, and these items are images; leave both out of rows=")
        return [str(text) for text in texts[0]], [str(text) for text in texts[1]]


@dataclass(frozen=True)
class Method:
    """A row.

    Attributes:
        kind: ``chance``, ``key`` (keys of the index) or ``words`` (no model).
        rank: Ranks the documents for every query; none for chance, which has a closed form.
    """

    kind: str
    rank: Callable[[Subject], Found] | None


def _voted(
    subject: Subject, space: Space = "heads", *, center: bool = False, weigh: bool = True, rule: str = "decay"
) -> Found:
    """Let the heads of a space vote; a space of one head gives the ranking by its cosine."""
    found = subject.store.nearest(subject.queries, subject.depth, space=space, center=center)
    weights = subject.store.spaces(space, center=center).importance() if weigh else None
    return vote(found, weights, n=subject.depth, rule=rule)


def _parts(subject: Subject, space: Space) -> Found:
    """Let all parts of a query vote, each with all heads of a space."""
    weights = subject.store.spaces(space).importance()
    found = []
    for keys in subject.part_keys:
        nearest = subject.store.nearest(keys, subject.depth, space=space).as_parts()
        found += vote(nearest, np.tile(weights, len(keys)), n=subject.depth)
    return found


def _fusion(subject: Subject) -> Found:
    """Fuse the rankings of the parts of a query by reciprocal ranks."""
    found = []
    for keys in subject.part_keys:
        rankings = vote(subject.store.nearest(keys, subject.depth, space="standard"), n=subject.depth)
        fused = fuse([[one.id for one in ranking] for ranking in rankings], n=subject.depth)
        found.append([Ranked(name, score, ()) for name, score in fused])
    return found


def _mmr(subject: Subject) -> Found:
    """Choose from the nearest by the standard key what is relevant and unlike what was chosen."""
    pool = vote(subject.store.nearest(subject.queries, POOL * subject.depth, space="standard"), n=POOL * subject.depth)
    found = []
    for query, candidates in zip(subject.queries.standard, pool, strict=True):
        ids = [one.id for one in candidates]
        keys = subject.store.keys(ids).standard
        found.append([Ranked(ids[at], 0.0, ()) for at in diversify(query, keys, subject.depth)])
    return found


def diversify(query: npt.NDArray[Any], keys: npt.NDArray[Any], n: int, share: float = RELEVANCE) -> list[int]:
    """Choose n of some keys by maximal marginal relevance (Carbonell and Goldstein, 1998), greedily.

    Each time the key with the largest ``share * cos(key, query) - (1 - share) * max cos(key, chosen)`` is taken.

    Args:
        query: What is looked for, ``(width,)``.
        keys: What there is to choose from, ``(candidates, width)``.
        n: How many to choose.
        share: Share of relevance; 1 ranks by cosine alone.

    Returns:
        Places of the chosen keys, in the order in which they were chosen.
    """
    keys = unit(keys)
    relevance = keys @ unit(query)
    alike = np.zeros(len(keys))  # nothing is chosen yet
    chosen: list[int] = []
    for _ in range(min(n, len(keys))):
        worth = share * relevance - (1 - share) * alike
        worth[chosen] = -np.inf
        best = int(worth.argmax())
        chosen.append(best)
        near = keys @ keys[best]
        alike = near if len(chosen) == 1 else np.maximum(alike, near)
    return chosen


def _words(subject: Subject, rank: Callable[[Sequence[str], Sequence[str], int], lexical.Places]) -> Found:
    documents, queries = subject.words
    ids = subject.store.ids
    return [[Ranked(ids[at], 0.0, ()) for at in places] for places in rank(documents, queries, subject.depth)]


METHODS: Mapping[str, Method] = {
    "chance": Method("chance", None),
    "standard": Method("key", partial(_voted, space="standard")),
    "standard-centred": Method("key", partial(_voted, space="standard", center=True)),
    "mmr": Method("key", _mmr),
    "joined": Method("key", partial(_voted, space="joined")),
    "joined-centred": Method("key", partial(_voted, space="joined", center=True)),
    "split": Method("key", partial(_voted, space="split", weigh=False)),
    "mrag": Method("key", _voted),
    "mrag-centred": Method("key", partial(_voted, center=True)),
    "mrag-equal": Method("key", partial(_voted, weigh=False)),
    "mrag-rrf": Method("key", partial(_voted, rule="rrf")),
    "parts": Method("key", partial(_parts, space="standard")),
    "parts-mrag": Method("key", partial(_parts, space="heads")),
    "fusion": Method("key", _fusion),
    "tfidf": Method("words", partial(_words, rank=lexical.tfidf)),
    "bm25": Method("words", partial(_words, rank=lexical.bm25)),
}
"""Every row by name, in the order of the table."""

PAIRS = (
    ("mrag", "standard"), ("mrag", "split"), ("mrag", "joined"), ("mrag", "mrag-equal"), ("mrag", "tfidf"),
    ("mrag-centred", "mrag"), ("mrag-centred", "standard-centred"), ("mrag-centred", "joined-centred"),
    ("joined", "standard"), ("joined-centred", "standard-centred"), ("standard-centred", "standard"),
    ("split", "standard"), ("mmr", "standard"), ("parts", "standard"), ("parts", "mrag"), ("parts-mrag", "parts"),
)  # fmt: skip
"""Rows and what they are compared with, where both were asked for."""


def chosen(names: str | Sequence[str] | None) -> list[str]:
    """Return the rows that are asked for, chance first and the others in the order of the table.

    Args:
        names: Names, or one text of them with commas; nothing for all.

    Raises:
        OptionError: If there is no such row.

    Example:
        >>> chosen("tfidf,mrag")
        ['chance', 'mrag', 'tfidf']
    """
    asked = list(_split(names)) if names else list(METHODS)
    for name in asked:
        if name not in METHODS:
            raise OptionError(f"rows= has no row {name!r}; {suggest(name, METHODS)}")
    return [name for name in METHODS if name in asked or name == "chance"]


def _split(names: str | Sequence[str]) -> Iterator[str]:
    for name in names.split(",") if isinstance(names, str) else names:
        yield str(name).strip()
