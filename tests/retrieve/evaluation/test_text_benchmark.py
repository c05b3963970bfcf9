"""Keys of two models with learned weights through the shipped code: the figures that are published, and their bars."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import jsonschema
import numpy as np
import pytest

pytest.importorskip("safetensors", reason="needs safetensors: pip install 'attngraft[retrieve]'")

from benchmarks.retrieve.text import HERE, MODELS, evaluation, read_keys, table, wiki

from attngraft.retrieve.evaluation import METHODS, Evaluation, Results, read_benchmark, schema

ROWS = ("standard", "standard-centred", "joined", "joined-centred", "split", "mrag", "mrag-centred", "mrag-equal")


@cache
def again(model: str) -> Evaluation:
    return evaluation(model, rows=("chance", *ROWS))


def stored(model: str) -> Results:
    return Results.load(HERE / f"text-{model}.json")


@pytest.mark.parametrize("model", MODELS)
def test_the_published_figures_are_what_the_committed_keys_give(model: str) -> None:
    results, published = again(model).results, stored(model)
    jsonschema.validate(json.loads((HERE / f"text-{model}.json").read_text(encoding="utf-8")), schema())
    assert results.setting.index == published.setting.index
    assert results.groups == published.groups
    for row in results.rows:
        for scores in row.scores:
            known = published.row(row.name).on(scores.group)
            assert (scores.success.mean, scores.success.low) == pytest.approx((known.success.mean, known.success.low))
            assert scores.category is not None
            assert known.category is not None
            assert scores.category.mean == pytest.approx(known.category.mean)
    for one in results.differences:
        known_interval = published.difference(one.row, one.other, one.group)
        assert (one.success.mean, one.success.low, one.success.high) == pytest.approx(
            (known_interval.mean, known_interval.low, known_interval.high)
        )


def test_the_table_is_of_the_stored_results() -> None:
    page = (HERE / "text.md").read_text(encoding="utf-8")
    for model in MODELS:
        assert table(model, stored(model)) in page


def test_the_bars_of_the_small_decoder() -> None:
    """Frozen before the run: MRAG gains .15 or more over the standard key, above .10 for sure, and beats the split."""
    results = again("smollm2").results
    gain = results.difference("mrag", "standard", "2-6")
    assert gain.mean >= 0.15
    assert gain.low > 0.10
    assert results.difference("mrag", "standard", ">=7").low > 0
    assert results.difference("mrag", "split", "2-6").low > 0
    assert results.difference("mrag", "split", ">=7").low > 0


def test_where_it_gains_nothing() -> None:
    """Voting does not beat its control, heads joined, on text; and it loses to a pooled key that was trained."""
    decoder, encoder = again("smollm2").results, again("minilm").results
    assert decoder.difference("mrag-centred", "joined-centred", "2-6").low < 0
    assert encoder.difference("mrag", "standard", "2-6").high < 0
    assert encoder.difference("mrag-centred", "joined-centred", "2-6").high < 0


@pytest.mark.parametrize("model", MODELS)
def test_the_rows_of_words_and_sentences_lead(model: str) -> None:
    published = stored(model)
    best = max(row.on("all").success.mean for row in published.rows if row.name.startswith("mrag"))
    assert published.row("tfidf").on("all").success.mean > best
    if model == "minilm":
        assert published.row("parts").on("all").success.mean > best


def test_every_ranking_is_that_of_the_papers_procedure() -> None:
    """Importance over all pairs, every head by itself, votes in a dictionary: 250 of 250 rankings."""
    keys, _ = read_keys(HERE / "keys-smollm2.safetensors")
    documents, queries = (keys[name].heads.astype(float) for name in ("documents", "queries"))
    units = documents / np.linalg.norm(documents, axis=2, keepdims=True)
    asked = queries / np.linalg.norm(queries, axis=2, keepdims=True)
    heads = documents.shape[1]
    weights = [
        np.linalg.norm(documents[:, head], axis=1).mean() * (1 - units[:, head] @ units[:, head].T).mean()
        for head in range(heads)
    ]
    ours = again("smollm2").rankings["mrag"]
    same = 0
    for row, name in enumerate(keys["queries"].ids):
        votes: dict[str, float] = {}
        for head in range(heads):
            for rank, at in enumerate(np.argsort(-(units[:, head] @ asked[row, head]), kind="stable")[:32]):
                document = keys["documents"].ids[at]
                votes[document] = votes.get(document, 0.0) + weights[head] * 2.0**-rank
        same += sorted(votes, key=lambda document: -votes[document])[:32] == list(ours[name])
    assert same == 250


def test_the_benchmark_without_texts_is_the_one_with_them(shared_data: Path) -> None:
    whole, bare = read_benchmark(shared_data / "mrag_wiki"), wiki()
    assert whole.judged == bare.judged
    assert whole.categories("category") == bare.categories("category")


def test_every_row_is_published() -> None:
    assert [row.name for row in stored("minilm").rows] == list(METHODS)
