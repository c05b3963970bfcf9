"""TF-IDF and BM25 against their formulas, written slowly."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from attngraft.retrieve.evaluation.lexical import bm25, tfidf, tokens

DOCUMENTS = [
    "the harbour at dawn, boats and the harbour master",
    "a recipe with flour and water, with water again",
    "boats need water",
    "公交车在站",
    "nothing shared xyz",
]
QUERIES = ["harbour boats boats", "water and flour", "公交", "unknown words", ""]


def slow_tfidf(query: str) -> list[float]:
    counts = [Counter(tokens(text)) for text in DOCUMENTS]
    vocabulary = sorted(set().union(*counts))
    idf = {word: math.log((1 + len(counts)) / (1 + sum(word in c for c in counts))) + 1 for word in vocabulary}

    def vector(words: Counter[str]) -> np.ndarray:
        found = np.array([(1 + math.log(words[w])) * idf[w] if words[w] else 0.0 for w in vocabulary])
        return found / (np.linalg.norm(found) or 1)

    return [float(vector(Counter(tokens(query))) @ vector(c)) for c in counts]


def slow_bm25(query: str) -> list[float]:
    texts = [tokens(text) for text in DOCUMENTS]
    mean = sum(map(len, texts)) / len(texts)
    scores = []
    for text in texts:
        score = 0.0
        for word in tokens(query):
            holding = sum(word in other for other in texts)
            idf = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
            count = text.count(word)
            score += idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * len(text) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize(("fast", "slow"), [(tfidf, slow_tfidf), (bm25, slow_bm25)])
def test_rankings_are_those_of_the_formula(fast: object, slow: object) -> None:
    pytest.importorskip("sklearn" if fast is tfidf else "bm25s")
    for query, places in zip(QUERIES, fast(DOCUMENTS, QUERIES, 4), strict=True):  # type: ignore[operator]
        scores = slow(query)  # type: ignore[operator]
        expected = sorted((at for at, score in enumerate(scores) if score > 0), key=lambda at: (-scores[at], at))
        assert places.tolist() == expected[:4], query
    assert [len(places) for places in fast(DOCUMENTS, QUERIES, 4)][3:] == [0, 0]  # type: ignore[operator]


def test_documents_without_words(recwarn: pytest.WarningsRecorder) -> None:
    for fast in (tfidf, bm25):
        pytest.importorskip("sklearn" if fast is tfidf else "bm25s")
        assert [places.tolist() for places in fast(["", "!"], ["water"], 3)] == [[]]
    assert not recwarn.list
