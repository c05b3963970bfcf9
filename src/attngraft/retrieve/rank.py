"""Rankings from what each head found: votes, and the fusion of rankings.

Paper: Multi-Head RAG: Solving Multi-Aspect Problems with LLMs (Besta et al., 2024), arXiv:2406.05085.
Code: spcl/MRAG, multirag/evaluation/evaluate.py, BSD-3-Clause, read for parity only.
Differs: Nothing with ``rule="decay"``: every head gives the item at rank r = 0, 1, ... its weight times 2^-r, the votes
of an item add up, and ties go to the item that was met first, head after head. The paper's code lets heads vote 32
deep, whatever number of items is asked for; `PAPER_DEPTH` is that number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attngraft._core.checks import one_of
from attngraft._core.errors import ShapeError

Rule = Literal["decay", "equal", "rrf", "max"]
RULES: tuple[str, ...] = get_args(Rule)
PAPER_DEPTH = 32
"""How deep every head votes in the paper's code."""
RRF = 60
"""The constant of reciprocal rank fusion, 1 / (60 + r), with ranks from 0 as the paper's code counts them."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest items of each head.

    Attributes:
        ids: Names of items, which ``rows`` count in.
        rows: Nearest first, ``(queries, heads, n)``; -1 where there are fewer.
        similarity: Their cosine, of the same shape.
    """

    ids: Sequence[str]
    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.rows.ndim != 3 or self.rows.shape != self.similarity.shape:
            raise ShapeError("Neighbours", f"rows (queries, heads, n) and similarity {self.rows.shape}",
                             self.similarity.shape)  # fmt: skip

    def as_parts(self) -> Neighbours:
        """Return the heads of all queries as those of one query: queries that are parts of one vote together."""
        queries, heads, n = self.rows.shape
        shape = (1, queries * heads, n)
        return Neighbours(self.ids, self.rows.reshape(shape), self.similarity.reshape(shape))


@dataclass(frozen=True)
class HeadVote:
    """What one head gave an item.

    Attributes:
        head: Number of the head.
        rank: Rank of the item among the head's nearest, from 0.
        similarity: Cosine of the item's key and the query's.
        votes: What it gave.
    """

    head: int
    rank: int
    similarity: float
    votes: float


@dataclass(frozen=True)
class Ranked:
    """An item that was found, and why.

    Attributes:
        id: Its name.
        votes: The sum of what the heads gave; with ``rule="max"`` the largest.
        by_head: The heads that voted for it, the largest vote first.
    """

    id: str
    votes: float
    by_head: tuple[HeadVote, ...]


def vote(
    neighbours: Neighbours, importance: NDArray[np.float64] | None = None, *, n: int, rule: str = "decay"
) -> list[list[Ranked]]:
    """Rank items by the votes of the heads.

    Args:
        neighbours: What every head found; each gives votes to all of it.
        importance: Weight of each head, ``(heads,)``; None weighs them alike, and so does ``rule="equal"``.
        n: How many items to return for a query.
        rule: What the item at rank r = 0, 1, ... of head h gets: ``"decay"`` s_h 2^-r, ``"equal"`` 2^-r, ``"rrf"``
            s_h / (60 + r), ``"max"`` s_h 2^-r of the head that gives most.

    Returns:
        A ranking for each query.

    Raises:
        OptionError: If there is no such rule.
        ShapeError: If there is not one weight a head.
    """
    one_of("vote", "rule", rule, RULES)
    _, heads, depth = neighbours.rows.shape
    weights = np.ones(heads) if importance is None or rule == "equal" else np.asarray(importance, np.float64)
    if weights.shape != (heads,):
        raise ShapeError("vote", f"one weight for each of {heads} heads", weights.shape)
    ranks = np.arange(depth)
    given = weights[:, None] * (1 / (RRF + ranks) if rule == "rrf" else 0.5**ranks)  # (heads, depth)
    return [
        _ranking(neighbours.ids, rows, similarity, given, n, take_max=rule == "max")
        for rows, similarity in zip(neighbours.rows, neighbours.similarity, strict=True)
    ]


def _ranking(
    ids: Sequence[str],
    rows: NDArray[np.int64],
    similarity: NDArray[np.float32],
    given: NDArray[np.float64],
    n: int,
    *,
    take_max: bool,
) -> list[Ranked]:
    """Rank what the heads of one query found, ``(heads, depth)``."""
    heads, ranks = np.nonzero(rows >= 0)  # head after head, nearest first
    votes = given[heads, ranks]
    items, first, member = np.unique(rows[heads, ranks], return_index=True, return_inverse=True)
    totals = np.zeros(len(items))
    (np.maximum if take_max else np.add).at(totals, member, votes)
    best = np.lexsort((first, -totals))[:n]
    found = []
    for item in best:
        of_item = np.flatnonzero(member == item)
        by_head = tuple(
            HeadVote(int(heads[at]), int(ranks[at]), float(similarity[heads[at], ranks[at]]), float(votes[at]))
            for at in of_item[np.argsort(-votes[of_item], kind="stable")]
        )
        found.append(Ranked(ids[int(items[item])], float(totals[item]), by_head))
    return found


def fuse(rankings: Sequence[Sequence[str]], *, n: int, constant: float = RRF) -> list[tuple[str, float]]:
    """Fuse rankings by reciprocal ranks: an item gets ``1 / (constant + r)`` of each ranking it stands in.

    Args:
        rankings: Ids, best first, of each ranking.
        n: How many items to return.
        constant: How little the first ranks are favoured.

    Returns:
        Ids and scores, best first; ties go to the item that was met first.

    Example:
        >>> [name for name, _ in fuse([["a", "b"], ["b", "c"]], n=2)]
        ['b', 'a']
    """
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking):
            scores[name] = scores.get(name, 0.0) + 1 / (constant + rank)
    return sorted(scores.items(), key=lambda pair: -pair[1])[:n]
