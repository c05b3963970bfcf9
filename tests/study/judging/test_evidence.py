"""From a folder to verdicts: pairs, the order of looks, extensions, groups, folds, halves, and what to run next."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from attngraft._core.errors import PlanError
from attngraft.cli.main import main
from attngraft.study.judging.evidence import Evidence
from attngraft.study.judging.gather import gather, undecided
from attngraft.study.running.records import Run
from attngraft.study.study import Study

Make = Callable[..., Study]
PAIR = {"stock": 0.3, "eca@P3": 0.3}


def evidence(study: Study) -> Evidence:
    return gather(study.store, study.frozen_plan())


def test_a_pair_made_up_for_later_is_looked_at_last(made_study: Make) -> None:
    study = made_study(PAIR, seeds=4, controls="stock")
    assert evidence(study).seeds("eca@P3") == [0, 1, 2, 3]
    file = study.store.records / f"{Run(study.frozen_plan().arm('eca@P3'), 1).name}.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "finished": "2026-02-01T00:00:00+00:00"}))
    assert evidence(study).seeds("eca@P3") == [0, 2, 3, 1]


def test_a_convolution_is_asked_for_only_of_an_arm_that_came_out_better(made_study: Make) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.0, "se@P3": 0.3, "conv for eca@P3": 0.2}, seeds=6, controls="stock")
    for file in study.store.records.glob("conv*"):
        file.unlink()
    found = evidence(study)
    assert found.against_stock()["eca@P3"].outcome == "better"
    assert found.against_conv() == {}
    frozen = study.frozen_plan()
    assert undecided(study.store, frozen) == [Run(frozen.arm("conv for eca@P3"), 0)]
    assert all(not run.arm.against for run in undecided(study.store, frozen)[1:])


def test_an_extension_is_kept_beside_the_plan_and_asks_for_more_seeds(made_study: Make) -> None:
    study = made_study(PAIR, seeds=3, max_seeds=4, recorded=4, controls="stock", sesoi=0.01)
    frozen = study.frozen_plan()
    before = evidence(study).against_stock()["eca@P3"]
    assert (before.outcome, before.remaining) == ("undecided", 0)
    assert undecided(study.store, frozen) == []
    with pytest.raises(PlanError, match="2 seeds or more above the 4 there are, got max_seeds=5"):
        study.extend(5)
    done = CliRunner().invoke(main, ["study", "extend", str(study.folder), "max_seeds=8"])
    assert done.exit_code == 0, done.output
    assert "extended from 4 to 8 seeds" in done.output
    assert study.frozen_plan().hash == frozen.hash
    assert evidence(study).rule.extensions == (8,)
    assert [run.seed for run in undecided(study.store, frozen)] == [4, 4]
    assert study.extend(12) == (8, 12)
    refused = CliRunner().invoke(main, ["study", "extend", str(study.folder), "seeds=8"])
    assert refused.exit_code == 2
    assert "max_seeds=30" in refused.output


def test_groups_are_drawn_whole(made_study: Make) -> None:
    study = made_study(PAIR, seeds=2, controls="stock", group=r"(\d)\d*\.png$")
    found = evidence(study)
    assert found.draw.groups is not None
    weights = found.draw.weights(60)
    for group in np.unique(found.draw.groups):
        members = weights[:, found.draw.groups == group]
        assert (members == members[:, :1]).all()
    assert any("groups" in said for said in found.warnings())


def test_winners_without_a_fresh_split_are_judged_on_the_half_that_did_not_choose(made_study: Make) -> None:
    study = made_study(PAIR, seeds=6, controls="stock")
    search = study.store.folder / "search.json"
    search.write_text(json.dumps({"tried": 9, "fresh_split": False, "halves": True, "rungs": []}))
    kept = evidence(study).draw.kept
    assert kept is not None
    assert kept.sum() == 30
    assert not evidence(study).rule.selected
    search.write_text(json.dumps({"tried": 9, "fresh_split": False, "rungs": []}))
    verdict = evidence(study).against_stock()["eca@P3"]
    assert (verdict.outcome, verdict.reason[:27]) == ("undecided", "chosen on the images it is ")


def test_the_halves_of_a_search_keep_groups_whole(made_study: Make) -> None:
    study = made_study(PAIR, seeds=2, controls="stock", group=r"(\d)\.png$")
    (study.store.folder / "search.json").write_text(json.dumps({"tried": 9, "fresh_split": False, "halves": True}))
    draw = evidence(study).draw
    assert draw.groups is not None
    assert draw.kept is not None
    assert {bool(draw.kept[draw.groups == group].any()) for group in np.unique(draw.groups)} == {False, True}
    for group in np.unique(draw.groups):
        assert len(set(draw.kept[draw.groups == group].tolist())) == 1


def test_looks_of_a_running_study_keep_what_they_resampled_and_reports_write_nothing(made_study: Make) -> None:
    study = made_study(PAIR, seeds=3, max_seeds=6, controls="stock")
    cache: Path = study.store.folder / "cache" / "judging"
    evidence(study).against_stock()
    assert not cache.exists()
    undecided(study.store, study.frozen_plan())
    assert len(list(cache.glob("*.npz"))) == 6
    again = gather(study.store, study.frozen_plan(), keep=True)
    assert again.against_stock() == evidence(study).against_stock()


def test_folds_take_the_overlap_into_the_error(made_study: Make) -> None:
    study = made_study(PAIR, seeds=4, controls="stock")
    found = evidence(study)
    assert found.criterion is not None
    folded = replace(found, criterion=replace(found.criterion, folds=5))
    plain, wider = found.estimates("AP")["eca@P3"], folded.estimates("AP")["eca@P3"]
    assert wider.overlap == pytest.approx(1 / 4)
    assert wider.image_sd == 0
    assert wider.error == pytest.approx(plain.seed_sd * np.sqrt(1 / 4 + 1 / 4))
    row = folded.breakdown("eca@P3")["AP"]
    assert (row.overlap, row.difference) == (wider.overlap, pytest.approx(wider.difference))
    assert row.interval() == pytest.approx(wider.interval())


def test_what_can_be_decided_is_said_from_the_first_pair(made_study: Make) -> None:
    study = made_study({**PAIR, "noop": 0.3}, seeds=2, recorded=1)
    assert evidence(study).decidable().startswith("these images can show a gain of ")


def change(study: Study, name: str, **facts: Any) -> None:
    """Change what a record says of how its run was made."""
    file = study.store.records / f"{name}.json"
    record = json.loads(file.read_text())
    record["watch"] |= facts
    file.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "facts", [{"batch": 4}, {"pictures": ["ffff", 1]}, {"weights": ["ffff", 83]}, {"batches": ["x"] * 6}]
)
def test_a_run_that_is_no_pair_is_left_out(made_study: Make, facts: dict[str, Any]) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1, "se@P3": 0.1}, seeds=4, controls="stock")
    change(study, "eca@P3-s2", **facts)
    evidence = gather(study.store, study.frozen_plan())
    assert evidence.seeds("eca@P3") == [0, 1, 3]
    assert evidence.seeds("se@P3") == [0, 1, 2, 3]
    assert study.results.arm("eca@P3").estimate.seeds == 3
    assert "eca@P3 at seed 2, left out of the comparison" in study.report().read_text()


def test_a_baseline_that_differs_leaves_its_seed_to_nobody(made_study: Make) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1, "se@P3": 0.1}, seeds=3, controls="stock")
    change(study, "stock-s1", batch=4)
    evidence = gather(study.store, study.frozen_plan())
    assert evidence.seeds("eca@P3") == evidence.seeds("se@P3") == [0, 2]


def test_runs_of_a_program_that_notes_nothing_are_pairs(made_study: Make) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=3, controls="stock")
    for file in study.store.records.glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"watch": {}}))
    assert gather(study.store, study.frozen_plan()).seeds("eca@P3") == [0, 1, 2]


def test_a_run_that_diverged_is_a_pair_and_counts_as_nothing_found(made_study: Make) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=3, controls="stock")
    change(study, "eca@P3-s1", diverged=True, batches=["x"])
    found = evidence(study)
    assert found.seeds("eca@P3") == [0, 1, 2]
    assert found.paired("AP", "eca@P3").diverged == (False, True, False)
