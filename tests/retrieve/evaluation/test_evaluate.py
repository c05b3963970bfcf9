"""An evaluation from an index to results, runs and a page: figures by hand, files kept, bad input in a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from attngraft._core.errors import DataError, OptionError
from attngraft.retrieve.evaluation import METHODS, Benchmark, Evaluation, Results, evaluate, schema
from attngraft.retrieve.evaluation.evaluate import PARTS
from attngraft.retrieve.evaluation.runs import read_run
from tests.retrieve.evaluation.conftest import ASPECTS, HEADS, SmallIndex

N = 5


@pytest.fixture
def done(index: SmallIndex, benchmark: Benchmark) -> Evaluation:
    return evaluate(index, beir=benchmark, n=N, depth=9, measures=["nDCG@5", "RR"])


def test_figures_are_those_counted_by_hand(done: Evaluation, benchmark: Benchmark) -> None:
    results = done.results
    assert [row.name for row in results.rows] == list(METHODS)
    assert [(g.name, g.queries, g.is_band) for g in results.groups] == [
        ("all", 6, True), ("1", 1, True), ("2-6", 4, True), (">=7", 1, True),
        ("2", 1, False), ("3", 2, False), ("6", 1, False), ("8", 1, False),
    ]  # fmt: skip
    categories = benchmark.categories("category")
    for name, found in done.rankings.items():
        for group in results.groups:
            success, category = [], []
            for query, wanted in benchmark.judged.items():
                if group.low <= len(wanted) <= group.high:
                    first = found[query][:N]
                    success.append(len(set(first) & set(wanted)) / len(wanted))
                    names = {categories[one] for one in wanted}
                    category.append(len(names & {categories[one] for one in first}) / len(names))
            scores = results.row(name).on(group.name)
            assert scores.category is not None
            assert scores.weighted is not None
            assert scores.success.mean == pytest.approx(np.mean(success))
            assert scores.category.mean == pytest.approx(np.mean(category))
            assert scores.weighted.mean == pytest.approx((2 * np.mean(success) + np.mean(category)) / 3)
    for row in results.rows:
        for curve in row.curves:
            assert len(curve.success) == len(curve.category) == 9
            assert curve.success[N - 1] == pytest.approx(row.on(curve.group).success.mean)
            assert list(curve.success) == sorted(curve.success)


def test_chance_is_there_whatever_rows_are_asked_for(index: SmallIndex, benchmark: Benchmark) -> None:
    results = evaluate(index, beir=benchmark, rows="mrag", n=N).results
    assert [row.name for row in results.rows] == ["chance", "mrag"]
    assert results.row("chance").on("all").success.mean == pytest.approx(N / 40)


def test_images_have_no_rows_of_words(index: SmallIndex, benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    index.encoder.kind = "images"
    monkeypatch.setitem(PARTS, "images", "sentences")  # this encoder cuts no images
    results = evaluate(index, beir=benchmark, n=N).results
    assert [row.name for row in results.rows] == [name for name in METHODS if name not in ("tfidf", "bm25")]


def test_differences_are_paired(done: Evaluation) -> None:
    results = done.results
    for one in results.differences:
        means = [results.row(name).on(one.group).success.mean for name in (one.row, one.other)]
        assert one.success.mean == pytest.approx(means[0] - means[1])
        assert one.success.low <= one.success.mean <= one.success.high
    assert results.difference("mrag", "standard", "2-6").mean == pytest.approx(
        results.row("mrag").on("2-6").success.mean - results.row("standard").on("2-6").success.mean
    )
    assert ("mrag-centred", "joined-centred", "all") in {(d.row, d.other, d.group) for d in results.differences}


def test_a_measure_that_is_not_there_is_refused_before_the_model_runs(index: SmallIndex, benchmark: Benchmark) -> None:
    with pytest.raises(OptionError, match="measures= takes names"):
        evaluate(index, beir=benchmark, measures=["beauty"])
    assert index.encoder.asked == []


def test_parts_are_keyed_only_where_a_row_needs_them(index: SmallIndex, benchmark: Benchmark) -> None:
    evaluate(index, beir=benchmark, rows=["standard", "mrag"], n=N)
    assert sorted(index.encoder.asked) == [f"q{k}" for k in range(6)]
    evaluate(index, beir=benchmark, rows=["parts", "fusion", "parts-mrag"], n=N)
    assert len(index.encoder.asked) == 12 + sum(ASPECTS)  # once, for three rows


def test_examples_say_which_heads_voted(done: Evaluation) -> None:
    examples = done.results.examples
    assert sorted(len(example.wanted) for example in examples) == sorted(ASPECTS)
    for example in examples:
        assert all(one.relevant for one in example.wanted)
        assert [one.id for one in example.found["mrag"]] == done.rankings["mrag"][example.query][:10]
        for hit in example.found["mrag"]:
            assert hit.heads
            assert {vote.head for vote in hit.heads} <= set(range(HEADS))
            assert hit.title == f"Title {hit.id[1:]}"
        assert not any(hit.heads for name in ("standard", "tfidf") for hit in example.found[name])


def test_results_are_written_as_their_schema_says_and_read_again(done: Evaluation, tmp_path: Path) -> None:
    home = done.save(tmp_path / "eval")
    values = done.results.to_dict()
    jsonschema.validate(values, schema())
    assert Results.load(home / "results.json") == done.results
    for name, found in done.rankings.items():
        assert read_run(home / f"{name}.run") == found
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**values, "groups": 3}, schema())
    (home / "results.json").write_text('{"schema": "attngraft.retrieval/0"}')
    with pytest.raises(DataError, match="of the form 'attngraft.retrieval/0', and this release reads"):
        Results.load(home / "results.json")
    for wrong in ("[]", "[" * 100_000):
        (home / "results.json").write_text(wrong)
        with pytest.raises(DataError, match="holds no results"):
            Results.load(home / "results.json")


def test_a_run_file_is_a_row_like_the_others(done: Evaluation, index: SmallIndex, benchmark: Benchmark,
                                             tmp_path: Path) -> None:  # fmt: skip
    home = done.save(tmp_path / "eval")
    (home / "mrag.run").rename(home / "other-system.run")
    again = evaluate(index, beir=benchmark, rows="mrag", runs=[home / "other-system.run", home / "split.run"], n=N)
    assert [row.name for row in again.results.rows] == ["chance", "mrag", "other-system", "split"]
    assert again.results.row("other-system").scores == again.results.row("mrag").scores
    assert again.results.row("other-system").kind == "run"
    twice = evaluate(index, beir=benchmark, rows="split", runs=[home / "split.run"], n=N).results
    assert [row.name for row in twice.rows] == ["chance", "split", "split.run"]
    (home / "my system.run").write_text((home / "split.run").read_text())
    same = [home / "my system.run"] * 3
    thrice = evaluate(index, beir=benchmark, rows="mrag", runs=same, n=N)
    assert [row.name for row in thrice.results.rows][2:] == ["my system", "my system.run", "my system-2"]
    again_home = thrice.save(tmp_path / "thrice")
    assert read_run(again_home / "my system-2.run") == read_run(home / "split.run")


def test_nothing_is_overwritten(done: Evaluation, tmp_path: Path) -> None:
    assert done.report(tmp_path / "report.html").name == "report.html"
    assert done.report(tmp_path / "report.html").name == "report-2.html"
    assert done.save(tmp_path / "eval").name == "eval"
    assert done.save(tmp_path / "eval").name == "eval-2"
    with pytest.raises(OptionError, match=r"its name ends with .html, got report.pdf"):
        done.report(tmp_path / "report.pdf")


def test_without_categories_there_is_no_category_score(index: SmallIndex, benchmark: Benchmark) -> None:
    results = evaluate(index, beir=benchmark, rows="mrag", n=N, category="colour").results
    assert results.setting.categories == 0
    assert all(scores.category is scores.weighted is None for row in results.rows for scores in row.scores)
    assert all(curve.category == () for row in results.rows for curve in row.curves)


def test_the_same_seed_gives_the_same_results(index: SmallIndex, benchmark: Benchmark) -> None:
    one, same = (evaluate(index, beir=benchmark, rows="mrag,split", n=N, seed=7).results for _ in range(2))
    assert one == same


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 0}, "evaluate needs n to be a positive integer, got 0"),
        ({"depth": True}, "depth to be a positive integer"),
        ({"weight": -1.0}, "weight= is how many times as much"),
        ({"weight": float("nan")}, "weight= is how many times as much"),
        ({"rows": "maximal"}, "rows= has no row 'maximal'"),
        ({"measures": ["beauty"]}, "measures= takes names of ir_measures"),
    ],
)
def test_options_that_make_no_sense(
    index: SmallIndex, benchmark: Benchmark, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        evaluate(index, beir=benchmark, **{"rows": "mrag", **options})


def test_an_index_of_another_corpus_is_refused(index: SmallIndex, benchmark: Benchmark) -> None:
    fewer = {name: item for name, item in benchmark.documents.items() if name != "d39"}
    judged = {query: {d: 1 for d in wanted if d != "d39"} or {"d0": 1} for query, wanted in benchmark.judged.items()}
    with pytest.raises(DataError, match="the index holds besides 1 documents, such as d39"):
        evaluate(index, beir=replace(benchmark, documents=fewer, judged=judged), rows="mrag")
    index.store.delete(["d7"])
    with pytest.raises(DataError, match="the index does not hold 1 documents, such as d7"):
        evaluate(index, beir=benchmark, rows="mrag")


def test_a_run_of_another_benchmark_is_refused(index: SmallIndex, benchmark: Benchmark, tmp_path: Path) -> None:
    file = tmp_path / "other.run"
    file.write_text("q0 Q0 d99 1 1 x\n")
    with pytest.raises(DataError, match="names document d99 for query q0, which small does not have"):
        evaluate(index, beir=benchmark, rows="mrag", runs=[file])
    file.write_text("q99 Q0 d1 1 1 x\n")
    with pytest.raises(DataError, match="has no query of small"):
        evaluate(index, beir=benchmark, rows="mrag", runs=[file])


def test_n_beyond_the_documents_finds_all(index: SmallIndex, benchmark: Benchmark) -> None:
    results = evaluate(index, beir=benchmark, rows="standard,mrag,mmr", n=60, depth=3).results
    assert results.setting.depth == 60
    assert all(row.on("all").success.mean == 1 for row in results.rows)
