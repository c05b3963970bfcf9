"""Rows without a model: TF-IDF and BM25 over words, by scikit-learn and bm25s."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from attngraft._core.extras import extra_package

TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]{2,}")
"""Words of two letters or more; each Chinese character and each kana, which no blank separates, by itself."""

Places: TypeAlias = list[npt.NDArray[np.intp]]
"""Places of documents in the corpus for each query, the best first; those that share no word with it are left out."""


def tokens(text: str) -> list[str]:
    """Return the words of a text.

    Example:
        >>> tokens("A bus, 公交车 and GPU显存!")
        ['bus', '公', '交', '车', 'and', 'gpu', '显', '存']
    """
    return TOKEN.findall(text.lower())


def tfidf(documents: Sequence[str], queries: Sequence[str], depth: int) -> Places:
    """Rank documents by the cosine of TF-IDF vectors, with 1 + log of the counts.

    Args:
        documents: The corpus.
        queries: What is looked for.
        depth: How many to rank.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    extra_package("sklearn", "retrieve")
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(map(tokens, documents)):
        return [np.zeros(0, np.intp) for _ in queries]
    vectors = TfidfVectorizer(analyzer=tokens, sublinear_tf=True)
    corpus = vectors.fit_transform(documents)
    similarities = vectors.transform(queries) @ corpus.T
    return [_best(row.toarray().ravel(), depth) for row in similarities]


def bm25(documents: Sequence[str], queries: Sequence[str], depth: int) -> Places:
    """Rank documents by BM25 with k1 = 1.5 and b = 0.75, Lucene's form; the arguments are those of `tfidf`.

    Raises:
        MissingExtraError: If bm25s is not installed.
    """
    library = extra_package("bm25s", "retrieve")
    words = [tokens(document) for document in documents]
    if not any(words):
        return [np.zeros(0, np.intp) for _ in queries]
    index = library.BM25(k1=1.5, b=0.75, method="lucene")
    index.index(words, show_progress=False)
    known = index.vocab_dict
    asked = ([word for word in tokens(query) if word in known] for query in queries)
    return [
        _best(np.asarray(index.get_scores(words), np.float64), depth) if words else np.zeros(0, np.intp)
        for words in asked
    ]


def _best(scores: npt.NDArray[np.float64], depth: int) -> npt.NDArray[np.intp]:
    """Return the places of the highest scores above 0; equal ones in the order of the corpus."""
    order = np.argsort(-scores, kind="stable")[:depth]
    return order[scores[order] > 0]
