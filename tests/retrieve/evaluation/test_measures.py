"""Ratios against ir_measures, pyndeval, a slow transcription of the paper's, and counting by drawing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from attngraft._core.errors import OptionError
from attngraft.retrieve.evaluation.measures import (
    Judgements,
    Rankings,
    category_chance,
    category_success,
    chance,
    further,
    success,
    weighted,
)

ir_measures = pytest.importorskip("ir_measures")
DEPTH = 17


@pytest.fixture
def drawn() -> tuple[Judgements, Rankings, dict[str, str]]:
    random = np.random.default_rng(3)
    documents = [f"d{i}" for i in range(60)]
    categories = {name: f"c{int(i)}" for name, i in zip(documents, random.integers(0, 9, 60), strict=True)}
    judged = {
        f"q{i}": {str(name): 1 for name in random.choice(documents, size=count, replace=False)}
        for i, count in enumerate((1, 2, 3, 7, 12))
    }
    found = {
        query: [str(name) for name in random.permutation(documents)[: 5 + 9 * i]] for i, query in enumerate(judged)
    }
    return judged, found, categories


def test_both_ratios_are_the_papers(drawn: tuple[Judgements, Rankings, dict[str, str]]) -> None:
    judged, found, categories = drawn
    documents, by_category = success(judged, found, DEPTH), category_success(judged, found, categories, DEPTH)
    for row, (query, wanted) in enumerate(judged.items()):
        for n in range(1, DEPTH + 1):
            fetched = set(found[query][:n])
            assert documents[row, n - 1] == pytest.approx(len(fetched & set(wanted)) / len(wanted), abs=1e-12)
            names = {categories[name] for name in wanted}
            met = {categories[name] for name in fetched} & names
            assert by_category[row, n - 1] == pytest.approx(len(met) / len(names), abs=1e-12)


def test_the_category_ratio_is_subtopic_recall(drawn: tuple[Judgements, Rankings, dict[str, str]]) -> None:
    pytest.importorskip("pyndeval")
    judged, found, categories = drawn
    qrels = [
        ir_measures.Qrel(query, name, 1, category)
        for query, wanted in judged.items()
        for category in {categories[one] for one in wanted}
        for name, its in categories.items()
        if its == category
    ]
    run = [
        ir_measures.ScoredDoc(q, name, -float(rank)) for q, names in found.items() for rank, name in enumerate(names)
    ]
    ours, place = category_success(judged, found, categories, DEPTH), {query: i for i, query in enumerate(judged)}
    asked = [ir_measures.StRecall @ n for n in range(1, DEPTH + 1)]
    theirs = list(ir_measures.iter_calc(asked, qrels, run))
    assert len(theirs) == DEPTH * len(judged)
    for one in theirs:
        assert ours[place[one.query_id], one.measure["cutoff"] - 1] == pytest.approx(one.value, abs=1e-6)


def test_a_query_without_a_ranking_scores_nothing() -> None:
    judged = {"a": {"d": 1}, "b": {"d": 1}}
    assert success(judged, {"b": ["d"]}, 2).tolist() == [[0, 0], [1, 1]]
    assert category_success(judged, {"b": ["d"]}, {"d": "c"}, 2).tolist() == [[0, 0], [1, 1]]


def test_chance_is_what_all_draws_give_on_average() -> None:
    categories = dict(zip("abcdefg", "xxyyyzz", strict=True))
    judged = {"q": {"a": 1, "c": 1}, "r": {"a": 1, "b": 1, "f": 1}}
    for n in (1, 2, 3, 7):
        draws = [{"q": draw, "r": draw} for draw in itertools.combinations(categories, n)]
        assert chance(judged, 7, n)[:, -1] == pytest.approx(np.mean([success(judged, d, n)[:, -1] for d in draws], 0))
        met = np.mean([category_success(judged, draw, categories, n)[:, -1] for draw in draws], axis=0)
        assert category_chance(judged, categories, n)[:, -1] == pytest.approx(met)
    assert chance(judged, 7, 9)[0].tolist()[6:] == [1, 1, 1]
    assert category_chance(judged, categories, 9)[0].tolist()[6:] == [1, 1, 1]


def test_twenty_random_documents_of_the_paper_score_561_on_categories() -> None:
    """Above the published standard (.340) and split (.528) at ten aspects."""
    categories = {f"d{i}": f"c{i % 25}" for i in range(1250)}
    judged = {"q": {f"d{i}": 1 for i in range(10)}}
    expected = 1 - math.comb(1200, 20) / math.comb(1250, 20)
    assert category_chance(judged, categories, 20)[0, -1] == pytest.approx(expected) == pytest.approx(0.561, abs=5e-4)
    assert chance(judged, 1250, 20)[0, -1] == 0.016
    assert weighted(chance(judged, 1250, 20), category_chance(judged, categories, 20), 2)[0, -1] == pytest.approx(
        0.198, abs=5e-4
    )


def test_any_measure_of_ir_measures() -> None:
    judged, found = {"q": {"a": 1, "b": 1}}, {"q": ["x", "b", "y", "a"]}
    assert further("RR", judged, found).tolist() == [0.5]
    ideal, got = 1 + 1 / math.log2(3), 1 / math.log2(3) + 1 / math.log2(5)
    assert further("nDCG@10", judged, found)[0] == pytest.approx(got / ideal, abs=1e-6)
    with pytest.raises(OptionError, match=r"such as nDCG@10 or RR, got 'beauty'"):
        further("beauty", judged, found)
