"""Screening: who goes on, and that the winners are judged on what did not choose them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from attngraft._core.errors import PlanError
from attngraft.data import beacons
from attngraft.study.plan import Plan
from attngraft.study.running.records import Run, Store
from attngraft.study.search import Rung, Search, candidates
from attngraft.study.study import Study
from tests.study.conftest import TINY, record, truth_of

WRONG = {"eca@P3": 0.0, "se@P3": 0.25, "eca@2": 0.4, "se@2": 0.5, "eca@1": 0.5, "se@1": 0.6, "eca@0": 0.6}


class Instantly:
    """An engine whose runs are made up at once, or fail, those of some arms."""

    def __init__(self, study: Study, data: Path, failing: Collection[str] = ()) -> None:
        self.study, self.data, self.failing = study, data, failing
        self.workers = 1
        self.going: list[Run] = []

    def free(self) -> bool:
        return True

    def start(self, run: Run) -> None:
        self.going.append(run)

    def running(self) -> list[Run]:
        return self.going

    def ended(self) -> Iterator[tuple[Run, str]]:
        frozen, truth, store = self.study.frozen_plan(), truth_of(self.data), self.study.store
        while self.going:
            run = self.going.pop()
            if run.arm.name in self.failing:
                yield run, "it crashed"
                continue
            store.keep_truth(truth, self.data.parent / "images" / "val")
            record(store, run, frozen, truth, WRONG.get(run.arm.name, 0.4), epochs=2)
            yield run, ""

    def stop(self) -> None:
        self.going.clear()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return beacons(tmp_path / "data", train=1, val=40)


def search(data: Path, **keys: Any) -> Search:
    own = {key: keys.pop(key) for key in ("seeds", "rule") if key in keys}
    keys_of_plan = {**TINY, "data": str(data), "arms": tuple(WRONG), "seeds": 2, "epochs": 18, "controls": "stock"}
    return Search(Plan.of({**keys_of_plan, **own}), folder=data.parent.parent / "search", **keys)


def test_the_rungs_share_the_budget(data: Path) -> None:
    assert search(data, winners=1, keep=2).rungs() == [Rung(7, 2), Rung(4, 4), Rung(2, 9)]
    assert search(data, winners=2, keep=3).rungs() == [Rung(7, 2), Rung(3, 6)]


def test_the_winners_are_judged_on_other_seeds(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Study, "_engine", lambda study, *_: Instantly(study, data))
    monkeypatch.setattr("attngraft.study.study.measure_costs", lambda store: None)
    study, failed = search(data, winners=1, keep=3).run()
    assert failed == {}
    assert study.plan.arms == ("eca@P3",)
    rungs = [Store(study.folder.parent / name).records.glob("*.json") for name in ("rung-1", "rung-2")]
    searched = {json.loads(file.read_text())["seed"] for files in rungs for file in files}
    assert searched == {1000, 1001}
    assert not searched & {found.seed for found in study.records()}
    page = study.report().read_text()
    assert "winners of a search over 7 recipes" in page
    assert "on the images that it chose by" in page


def test_a_search_under_the_rule_anytime_looks_at_its_winners_often(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Study, "_engine", lambda study, *_: Instantly(study, data))
    monkeypatch.setattr("attngraft.study.study.measure_costs", lambda store: None)
    study, failed = search(data, winners=1, seeds="3-6", rule="anytime").run()
    assert failed == {}
    assert (study.plan.rule, study.plan.seeds, study.plan.max_seeds) == ("anytime", 3, 6)
    assert len(study.runs()) >= 6


@pytest.mark.parametrize("failing", [set(WRONG), {*WRONG, "stock"}], ids=["candidates", "all"])
def test_a_search_without_a_candidate_that_trains_says_where_why_is(
    data: Path, monkeypatch: pytest.MonkeyPatch, failing: set[str]
) -> None:
    monkeypatch.setattr(Study, "_engine", lambda study, *_: Instantly(study, data, failing))
    monkeypatch.setattr("attngraft.study.study.measure_costs", lambda store: None)
    with pytest.raises(PlanError, match=r"no candidate could be trained; why is in .*rung-1.failures"):
        search(data).run()


def test_a_held_out_split_is_taken_where_there_is_one(data: Path) -> None:
    assert search(data).split == "val"
    data.write_text(data.read_text() + "\ntest: images/train\n")
    assert search(data).split == "test"


def test_what_cannot_be_searched_says_why(data: Path) -> None:
    with pytest.raises(PlanError, match="more candidates than its 9 winners, got 7"):
        search(data, winners=9)
    with pytest.raises(PlanError, match="2 or more, got 1"):
        search(data, keep=1)
    own = Plan.of({"data": str(data), "base": "a", "arms": "b,c,d", "command": "train.py {arm} {seed} {folder}"})
    with pytest.raises(PlanError, match="a program of yours .* has epochs of its own"):
        Search(own, folder=data.parent / "search")


def test_candidates_are_a_cross(data: Path) -> None:
    assert candidates("eca, se", "P3,P4") == ("eca@P3", "eca@P4", "se@P3", "se@P4")
