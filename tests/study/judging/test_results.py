"""Results: computed once, the same after their file, and read without a trace."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from attngraft._core.errors import DataError, PlanError
from attngraft.study.judging import collect
from attngraft.study.judging.breakdown import cells, two_sided
from attngraft.study.judging.gather import gather
from attngraft.study.judging.results import Results, schema
from attngraft.study.judging.statistics import Estimate
from attngraft.study.running.records import Run
from attngraft.study.study import Study
from tests.study.conftest import TINY, record

Make = Callable[..., Study]
WRONG = {"stock": 0.3, "noop": 0.3, "eca@P3": 0.0, "conv for eca@P3": 0.25}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def _reading_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing resolve arms or start a process."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a question resolves no arm and starts no process")

    monkeypatch.setattr("attngraft.study.running.controls.resolve_arms", never)
    monkeypatch.setattr("subprocess.run", never)
    monkeypatch.setattr("subprocess.Popen", never)


@pytest.mark.usefixtures("_reading_only")
def test_a_question_writes_builds_and_times_nothing(made_study: Make) -> None:
    study = made_study(WRONG, seeds=2)
    (study.store.folder / "costs.json").unlink()
    before = contents(study.store.folder)
    assert study.comparable()
    assert len(study.runs()) == 8
    assert [verdict.arm for verdict in study.verdicts()] == ["eca@P3"]
    assert study.results.arm("eca@P3").cost.latency is None
    assert contents(study.store.folder) == before


@pytest.mark.usefixtures("_reading_only")
def test_a_report_starts_no_benchmark(made_study: Make) -> None:
    study = made_study(WRONG, seeds=2)
    (study.store.folder / "costs.json").unlink()
    page = study.report().read_text()
    assert "Costs were not measured yet" in page
    assert not (study.store.folder / "costs.json").exists()


@pytest.mark.usefixtures("_reading_only")
def test_a_study_that_has_not_begun_answers_without_a_trace(tmp_path: Path) -> None:
    study = Study(folder=tmp_path / "new", **{**TINY, "data": "x.yaml", "arms": "eca@P3"})
    assert study.runs() == []
    assert study.verdicts() == []
    assert not study.comparable()
    with pytest.raises(PlanError, match="new holds no results: the study has not begun"):
        _ = study.results
    assert not (tmp_path / "new").exists()


def test_results_survive_their_file_and_fit_the_published_schema(made_study: Make) -> None:
    study = made_study(WRONG, seeds=1)  # so that there are infinite ends and missing deviations
    file = study.results.save(study.store.folder)
    written = json.loads(file.read_text())
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(written, schema())
    again = Results.load(file)
    assert again.arm("eca@P3").interval == (-math.inf, math.inf)
    assert math.isnan(again.arm("eca@P3").estimate.seed_sd)
    assert again.to_dict() == study.results.to_dict()
    written["runs"][0]["state"] = "lost"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, schema())


def test_results_are_computed_once_and_anew_for_other_records(
    made_study: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = made_study(WRONG, seeds=2)
    study.report()
    computed = []
    monkeypatch.setattr(collect, "collect", lambda *given: computed.append(given) or "computed anew")
    assert Study.open(study.folder).results.arm("eca@P3").estimate.seeds == 2
    assert computed == []
    (study.store.records / "eca@P3-s1.json").unlink()
    assert Study.open(study.folder).results == "computed anew"


def test_a_file_of_results_that_is_none_says_so(tmp_path: Path) -> None:
    for text, said in {
        "{": "holds no results",
        "[]": "holds no results",
        "[" * 100_000: "holds no results",
        '{"schema": "x/9"}': "is of the form 'x/9'",
    }.items():
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(DataError, match=said):
            Results.load(tmp_path / "results.json")
        assert Results.kept(tmp_path / "results.json", "") is None


def test_rows_are_flat(made_study: Make) -> None:
    results = made_study(WRONG, seeds=2).results
    row = next(row for row in results.table() if row["arm"] == "eca@P3")
    assert row["outcome"] == results.arm("eca@P3").verdict.outcome  # type: ignore[union-attr]
    assert row["latency_ratio"] == pytest.approx(1.14)
    assert [(r["arm"], r["seed"], r["state"]) for r in results.run_table()][:2] == [
        ("stock", 0, "finished"),
        ("noop", 0, "finished"),
    ]
    assert results.run_table()[0]["value"] == pytest.approx(100 * results.run_table()[0]["AP"])


def test_the_share_of_better_runs_is_mann_whitneys(made_study: Make) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 5, 7).astype(float), rng.integers(0, 5, 6).astype(float)
    expected = stats.mannwhitneyu(one, other).statistic / 42
    assert collect.better_share(one.tolist(), other.tolist()) == pytest.approx(expected)


def test_the_share_of_better_runs_compares_within_folds(made_study: Make) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=7), rng.normal(size=6)
    mine, theirs = [0, 1, 2, 0, 1, 2, 0], [2, 0, 0, 1, 1, 2]
    pairs = [(a, b) for a, x in zip(one, mine, strict=True) for b, y in zip(other, theirs, strict=True) if x == y]
    share = collect.better_share(one.tolist(), other.tolist(), mine, theirs)
    assert share == pytest.approx(sum(a > b for a, b in pairs) / len(pairs))

    # A gain far below what folds differ by: better on each fold, and hardly better over all pairs.
    study = made_study({"stock": 0.0, "eca@P3": 0.0}, seeds=4, controls="stock", folds=4)
    frozen = study.frozen_plan()
    for run in [Run(arm, seed) for arm in frozen.arms for seed in range(4)]:
        wrong = 0.2 * run.seed + 0.1 * (run.arm.name == "stock")
        record(study.store, run, frozen, study.store.truth(), wrong, 6)
    (arm,) = collect.table(gather(study.store, frozen), {})
    assert min(arm.differences.values()) > 0
    assert arm.better_share == 1


def test_bold_cells_are_benjamini_yekutielis() -> None:
    statsmodels = pytest.importorskip("statsmodels.stats.multitest", reason="needs statsmodels")
    rng = np.random.default_rng(1)
    table = {str(row): {arm: Estimate(6, float(rng.normal(0, 4)), 1.0, 0.3) for arm in ("a", "b")} for row in range(12)}
    found = [cell.sure for row in cells(table, 0.05).values() for cell in row.values()]
    p = [two_sided(estimate) for row in table.values() for estimate in row.values()]
    assert found == statsmodels.multipletests(p, 0.05, method="fdr_by")[0].tolist()
    assert 0 < sum(found) < sum(value < 0.05 for value in p)
    few = {"AP": {"a": Estimate(4, 50.0, 0.1, 0.0)}}
    assert not cells(few, 0.05)["AP"]["a"].sure
