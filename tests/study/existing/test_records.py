"""A published study, judged anew from its records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from attngraft._core.errors import DataError
from attngraft.study import Study
from attngraft.study.existing.records import judge_records
from attngraft.study.reporting.report import write_report
from attngraft.study.reporting.words import unfinished
from attngraft.study.running.records import Run

STUDIES = Path(__file__).resolve().parents[3] / "studies"


def test_records_alone_give_what_the_study_scored(made_study: Callable[..., Study]) -> None:
    study = made_study({"stock": 0.3, "noop": 0.3, "eca@P3": 0.0, "conv for eca@P3": 0.2}, seeds=3)
    study.report()
    judged, own = judge_records(study.store.folder), study.results
    assert judged.setting == own.setting
    for arm in own.arms:
        again = judged.arm(arm.name)
        assert (again.kind, again.model, again.cost) == (arm.kind, arm.model, arm.cost)
        assert again.differences == pytest.approx(arm.differences)
        assert again.estimate.seed_sd == pytest.approx(arm.estimate.seed_sd)
        assert again.estimate.image_sd == 0
    assert (judged.errors, judged.curves, judged.reproducibility) == (own.errors, own.curves, own.reproducibility)
    assert judged.breakdown.classes["red"]["eca@P3"].difference == pytest.approx(
        own.breakdown.classes["red"]["eca@P3"].difference
    )


def test_records_say_that_a_search_found_the_arms_and_that_the_plan_was_extended(
    made_study: Callable[..., Study],
) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.2}, seeds=3, max_seeds=4, controls="stock")
    search = {"tried": 12, "fresh_split": True, "recipes": ["eca@P3"]}
    (study.store.folder / "search.json").write_text(json.dumps(search))
    (study.store.folder / "extensions.json").write_text("[6]")
    study.report()
    judged, own = judge_records(study.store.folder), study.results
    assert judged.search == own.search == search
    assert judged.setting.extensions == own.setting.extensions == (6,)


def test_an_arm_whose_base_was_moved_is_one_arm(made_study: Callable[..., Study]) -> None:
    """Records of before and after `study relocate base=` name the base by its two places."""
    study = made_study({"stock": 0.3, "eca@P3": 0.1, "se@P3": 0.3}, seeds=3, controls="stock")
    for file in study.store.records.glob("*-s2.json"):
        moved = json.loads(file.read_text())
        file.write_text(json.dumps({**moved, "model": f"/new/{moved['model']}"}))
    study.report()
    judged, own = judge_records(study.store.folder), study.results
    assert [arm.name for arm in judged.arms] == [arm.name for arm in own.arms]
    assert {arm.model[:5] for arm in judged.arms} == {"/new/"}
    assert [arm.differences for arm in judged.arms] == [pytest.approx(arm.differences) for arm in own.arms]


def test_runs_that_failed_for_good_are_no_reason_to_wait(made_study: Callable[..., Study]) -> None:
    """Every planned run was finished or tried, so the plan is judged, as the study itself judges it."""
    study = made_study({"stock": 0.3, "eca@P3": 0.0, "se@P3": 0.3}, seeds=7, controls="stock")
    failed = Run(study.frozen_plan().arm("eca@P3"), 6)
    for file in study.store.records.glob(f"{failed.name}.*"):
        file.unlink()
    study.store.fail(failed, "OutOfMemoryError: no room")
    study.report()
    judged, own = judge_records(study.store.folder), study.results
    outcomes = [{arm.name: arm.verdict.outcome for arm in one.asked if arm.verdict} for one in (judged, own)]
    assert outcomes[0] == outcomes[1] == {"eca@P3": "better", "se@P3": "undecided"}
    assert unfinished(judged) == unfinished(own) == ["eca@P3, seed 6: OutOfMemoryError: no room"]
    assert judged.complete is own.complete is False


def test_the_published_beacons_study_says_how_often_arms_learned(tmp_path: Path) -> None:
    results = judge_records(STUDIES / "beacons")
    counts = {arm.name[:4]: arm.verdict.learning for arm in results.asked if arm.verdict}
    assert {name: (found.arm, found.baseline, found.runs) for name, found in counts.items() if found} == {
        "mhsa": (4, 0, 5),
        "ema(": (1, 0, 5),
        "msda": (0, 0, 5),
        "mlca": (0, 0, 5),
    }
    controls = [arm.learned for arm in results.arms if arm.control]
    assert [*controls, results.baseline.learned] == [0, 0, 0, 0, 0]  # type: ignore[union-attr]
    write_report(results, tmp_path)
    assert (tmp_path / "report.md").read_text() == (STUDIES / "beacons" / "report.md").read_text()


def test_a_plan_that_lacks_pairs_gives_no_verdict() -> None:
    results = judge_records(STUDIES / "bccd-fixed-split")
    assert {arm.verdict.outcome for arm in results.asked if arm.verdict} == {"interim"}
    assert not results.complete


def test_records_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(STUDIES / "beacons", tmp_path / "study"))
    lines = (folder / "records.jsonl").read_text().splitlines()
    for text, said in {
        "": "has no records",
        "{": "line 1 is no record",
        "[]": "line 1 is no record",
        '{"arm": "a"}': "line 1 is no record",
        '{"arm": "a", "error": "it crashed"}': "line 1 is no record",
        "[" * 100_000: "line 1 is no record",
        "\n".join(line for line in lines if '"arm": "stock"' not in line): "no seed at which the baseline",
    }.items():
        (folder / "records.jsonl").write_text(text)
        with pytest.raises(DataError, match=said):
            judge_records(folder)
    (folder / "records.jsonl").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        judge_records(folder)
