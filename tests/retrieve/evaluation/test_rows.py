"""Every row beside its procedure written slowly, a query, a head and a document at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from attngraft._core.errors import OptionError
from attngraft.retrieve import Item
from attngraft.retrieve.evaluation import METHODS, Benchmark, Subject
from attngraft.retrieve.evaluation.rows import PAIRS, chosen, diversify
from attngraft.retrieve.evaluation.summary import SHOWN, VOTING

Vectors = list[np.ndarray]
"""One array of documents, or one vector of a query, for each head."""


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def cut(keys: np.ndarray, how: str, standard: np.ndarray) -> Vectors:
    """Return the vectors of a space, in float64."""
    keys, standard = keys.astype(float), standard.astype(float)
    if how == "heads":
        return list(np.moveaxis(keys, -2, 0))
    if how == "joined":
        return [keys.reshape(*keys.shape[:-2], -1)]
    return np.split(standard, 3 if how == "split" else 1, axis=-1)


def importance(documents: np.ndarray) -> float:
    """Return the paper's weight of one head, all pairs one after the other."""
    far = [1 - cosine(a, b) for a in documents for b in documents]
    return float(np.mean([np.linalg.norm(a) for a in documents]) * np.mean(far))


def votes(
    documents: Vectors, queries: Sequence[Vectors], depth: int, *, center: bool = False, weigh: bool = True,
    given: Callable[[int], float] = lambda rank: 2.0**-rank,
) -> list[int]:  # fmt: skip
    """Rank documents as the paper's code does: a dictionary of votes, part after part, head after head."""
    found: dict[int, float] = {}
    means = [of_head.mean(0) if center else 0 * of_head[0] for of_head in documents]
    weights = [importance(of_head - mean) if weigh else 1.0 for of_head, mean in zip(documents, means, strict=True)]
    for query in queries:
        for head, (of_head, mean) in enumerate(zip(documents, means, strict=True)):
            alike = [cosine(query[head] - mean, document - mean) for document in of_head]
            ranked = sorted(range(len(alike)), key=lambda at, alike=alike: -alike[at])[:depth]
            for rank, document in enumerate(ranked):
                found[document] = found.get(document, 0.0) + weights[head] * given(rank)
    return sorted(found, key=lambda document: -found[document])[:depth]


SPACES = {
    "standard": ("standard", {}), "standard-centred": ("standard", {"center": True}), "joined": ("joined", {}),
    "joined-centred": ("joined", {"center": True}), "split": ("split", {"weigh": False}), "mrag": ("heads", {}),
    "mrag-centred": ("heads", {"center": True}), "mrag-equal": ("heads", {"weigh": False}),
    "mrag-rrf": ("heads", {"given": lambda rank: 1 / (60 + rank)}),
}  # fmt: skip


@pytest.mark.parametrize("name", SPACES)
def test_a_row_is_its_procedure(subject: Subject, name: str) -> None:
    space, options = SPACES[name]
    stored, queries = subject.store.keys(), subject.queries
    documents = cut(stored.heads, space, stored.standard)
    rank = METHODS[name].rank
    assert rank is not None
    for row, ranking in enumerate(rank(subject)):
        query = cut(queries.heads[row], space, queries.standard[row])
        expected = votes(documents, [query], subject.depth, **options)  # type: ignore[arg-type]
        assert [hit.id for hit in ranking] == [stored.ids[at] for at in expected]


@pytest.mark.parametrize(("name", "space"), [("parts", "standard"), ("parts-mrag", "heads")])
def test_parts_vote_together(subject: Subject, name: str, space: str) -> None:
    stored, rank = subject.store.keys(), METHODS[name].rank
    documents = cut(stored.heads, space, stored.standard)
    assert rank is not None
    for parts, ranking in zip(subject.part_keys, rank(subject), strict=True):
        queries = [cut(heads, space, standard) for heads, standard in zip(parts.heads, parts.standard, strict=True)]
        expected = votes(documents, queries, subject.depth)
        assert [hit.id for hit in ranking] == [stored.ids[at] for at in expected]


def test_fusion_adds_reciprocal_ranks(subject: Subject) -> None:
    stored, rank = subject.store.keys(), METHODS["fusion"].rank
    assert rank is not None
    for parts, ranking in zip(subject.part_keys, rank(subject), strict=True):
        queries = [[standard.astype(float)] for standard in parts.standard]
        expected = votes([stored.standard.astype(float)], queries, subject.depth, weigh=False,
                         given=lambda rank: 1 / (60 + rank))  # fmt: skip
        assert [hit.id for hit in ranking] == [stored.ids[at] for at in expected]


def test_mmr_is_carbonell_and_goldsteins() -> None:
    random = np.random.default_rng(2)
    query, keys = random.normal(size=5), random.normal(size=(12, 5))
    taken: list[int] = []
    while len(taken) < 7:
        worth = {
            at: 0.3 * cosine(query, keys[at]) - 0.7 * max((cosine(keys[at], keys[other]) for other in taken), default=0)
            for at in range(12)
            if at not in taken
        }
        taken.append(max(worth, key=lambda at: worth[at]))
    assert diversify(query, keys, 7, 0.3) == taken
    assert diversify(query, keys, 50, 1.0) == sorted(range(12), key=lambda at: -cosine(query, keys[at]))


def test_mmr_is_that_of_langchain() -> None:
    utils = pytest.importorskip("langchain_core.vectorstores.utils", reason="needs langchain-core: an oracle")
    random = np.random.default_rng(3)
    query, keys = random.normal(size=8), random.normal(size=(30, 8))
    theirs = utils.maximal_marginal_relevance(query, list(keys), lambda_mult=0.5, k=10)
    assert diversify(query, keys, 10) == theirs


def test_mmr_starts_with_the_nearest_of_the_standard_key(subject: Subject) -> None:
    first = {name: [hits[0].id for hits in METHODS[name].rank(subject)] for name in ("mmr", "standard")}  # type: ignore[misc]
    assert first["mmr"] == first["standard"]


@pytest.mark.parametrize("name", ["tfidf", "bm25"])
def test_words_find_the_documents_that_a_query_names(subject: Subject, name: str) -> None:
    rank = METHODS[name].rank
    assert rank is not None
    for query, hits in zip(subject.benchmark.queries, rank(subject), strict=True):
        assert {hit.id for hit in hits} == set(subject.benchmark.judged[query.id])


def test_words_of_images_are_refused(subject: Subject, benchmark: Benchmark) -> None:
    images = {name: Item(name, path=item.path) for name, item in benchmark.documents.items()}
    seen = Subject(subject.store, Benchmark("i", images, benchmark.queries, benchmark.judged, 0), subject.queries, 9,
                   list)  # fmt: skip
    with pytest.raises(OptionError, match="these items are images; leave both out"):
        METHODS["bm25"].rank(seen)  # type: ignore[misc]


def test_rows_are_chosen_by_name() -> None:
    assert chosen(None) == list(METHODS)
    assert chosen(["mrag", " standard"]) == ["chance", "standard", "mrag"]
    with pytest.raises(OptionError, match=r"rows= has no row 'mragg'; did you mean mrag"):
        chosen("mragg")


def test_names_of_rows_elsewhere_are_those_of_the_table() -> None:
    assert {name for pair in PAIRS for name in pair} | set(SHOWN) | set(VOTING) <= set(METHODS)
