"""The votes of `attngraft.retrieve.rank`, beside the paper's procedure written slowly."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from attngraft._core.errors import OptionError, ShapeError
from attngraft.retrieve.rank import Neighbours, fuse, vote

NAMES = [f"d{number}" for number in range(40)]


def found(seed: int, queries: int = 20, heads: int = 5, depth: int = 9) -> Neighbours:
    rng = np.random.default_rng(seed)
    rows = np.array([[rng.permutation(len(NAMES))[:depth] for _ in range(heads)] for _ in range(queries)])
    return Neighbours(NAMES, rows, np.sort(rng.random(rows.shape, np.float32))[..., ::-1])


def slow_votes(rows: np.ndarray, weights: np.ndarray, n: int, rule: str) -> list[tuple[str, float]]:
    """Vote for one query, one head and one rank after the other."""
    scores: dict[str, float] = {}
    for head, of_head in enumerate(rows.tolist()):
        for rank, row in enumerate(of_head):
            given = {
                "decay": weights[head] * 2.0**-rank,
                "equal": 2.0**-rank,
                "rrf": weights[head] / (60 + rank),
                "max": weights[head] * 2.0**-rank,
            }[rule]
            before = scores.get(NAMES[row], 0.0)
            scores[NAMES[row]] = max(before, given) if rule == "max" else before + given
    best = heapq.nlargest(n, scores, key=lambda name: scores[name])  # the first met wins a tie
    return [(name, scores[name]) for name in best]


@pytest.mark.parametrize("rule", ["decay", "equal", "rrf", "max"])
def test_votes_are_those_of_the_slow_procedure(rule: str) -> None:
    neighbours, weights = found(0), np.random.default_rng(1).uniform(0.2, 7, 5)
    rankings = vote(neighbours, weights, n=12, rule=rule)
    for rows, ranking in zip(neighbours.rows, rankings, strict=True):
        wanted = slow_votes(rows, weights, 12, rule)
        assert [hit.id for hit in ranking] == [name for name, _ in wanted]
        assert [hit.votes for hit in ranking] == pytest.approx([score for _, score in wanted], rel=1e-12)


def test_all_votes_together_are_what_the_heads_have_to_give() -> None:
    neighbours, weights = found(2), np.arange(1.0, 6)
    for ranking in vote(neighbours, weights, n=1000):
        assert sum(hit.votes for hit in ranking) == pytest.approx(weights.sum() * (2 - 2.0 ** (1 - 9)))
        assert all(sum(one.votes for one in hit.by_head) == pytest.approx(hit.votes) for hit in ranking)


def test_by_head_says_which_heads_voted_and_at_which_rank() -> None:
    neighbours = Neighbours(["a", "b"], np.array([[[0, 1], [1, 0]]]), np.array([[[0.9, 0.1], [0.8, 0.2]]], np.float32))
    first, second = vote(neighbours, np.array([1.0, 4.0]), n=2)[0]
    assert (first.id, first.votes, second.id, second.votes) == ("b", 4.5, "a", 3)
    assert [(one.head, one.rank, round(one.similarity, 6), one.votes) for one in first.by_head] == [
        (1, 0, 0.8, 4),
        (0, 1, 0.1, 0.5),
    ]


def test_ties_go_to_the_item_that_was_met_first() -> None:
    neighbours = Neighbours(NAMES, np.array([[[7, 1], [3, 9]]]), np.zeros((1, 2, 2), np.float32))
    assert [hit.id for hit in vote(neighbours, n=4)[0]] == ["d7", "d3", "d1", "d9"]


def test_heads_that_found_fewer_give_fewer() -> None:
    neighbours = Neighbours(NAMES, np.array([[[5, -1], [-1, -1]]]), np.zeros((1, 2, 2), np.float32))
    assert [(hit.id, hit.votes) for hit in vote(neighbours, n=9)[0]] == [("d5", 1)]


def test_parts_of_a_query_vote_together() -> None:
    neighbours, weights = found(3, queries=3), np.arange(1.0, 6)
    together = vote(neighbours.as_parts(), np.tile(weights, 3), n=1000)[0]
    alone = {hit.id: 0.0 for hit in together}
    for ranking in vote(neighbours, weights, n=1000):
        for hit in ranking:
            alone[hit.id] += hit.votes
    assert {hit.id: hit.votes for hit in together} == pytest.approx(alone)


def test_a_rule_that_is_not_there_and_weights_that_do_not_fit() -> None:
    with pytest.raises(OptionError, match="rule to be one of 'decay', 'equal', 'rrf', 'max', got 'borda'"):
        vote(found(0), n=1, rule="borda")
    with pytest.raises(ShapeError, match=r"one weight for each of 5 heads, got shape \(4,\)"):
        vote(found(0), np.ones(4), n=1)
    with pytest.raises(ShapeError, match=r"rows \(queries, heads, n\)"):
        Neighbours(NAMES, np.zeros((1, 2, 3), np.int64), np.zeros((1, 2), np.float32))


def test_fusion_adds_reciprocal_ranks_from_0() -> None:
    fused = fuse([["a", "b", "c"], ["c", "a"]], n=2)
    assert fused == [("a", pytest.approx(1 / 60 + 1 / 61)), ("c", pytest.approx(1 / 62 + 1 / 60))]
