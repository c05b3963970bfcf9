"""``status.json`` through a study, and what a damaged folder or a baseline that learns nothing leads to."""

from __future__ import annotations

from collections.abc import Callable

import jsonschema
import pytest

from attngraft._core.errors import PlanError
from attngraft.study.judging.gather import gather
from attngraft.study.layout import DAMAGED, STATUS
from attngraft.study.running import status
from attngraft.study.running.records import Run
from attngraft.study.running.schedule import carry_out
from attngraft.study.study import Study
from tests.study.running.test_run import Pretend

Make = Callable[..., Study]


def test_the_status_follows_the_runs_and_fits_its_schema(made_study: Make) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=2, recorded=1, controls="stock")
    told = []

    def made(run: Run) -> None:
        told.append(status.read(study.store.folder))

    failed = carry_out(study.store, study.frozen_plan(), Pretend(study.store, "eca@P3", made))
    assert [run.name for run in failed] == ["stock-s1", "eca@P3-s1"]  # one left no record, one crashed
    states = [[run["state"] for run in one["runs"]] for one in told]
    assert states == [["finished", "finished", "running", "running"]]
    last = status.read(study.store.folder)
    jsonschema.validate(last, status.schema())
    assert last["state"] == "ended"
    assert [run["state"] for run in last["runs"]] == ["finished", "finished", "failed", "failed"]
    assert last["runs"][0]["value"] == 100 * study.records()[0].numbers["AP"]
    assert last["runs"][3]["error"] == "it crashed"


def test_a_status_that_cannot_be_written_stops_no_run(made_study: Make, capsys: pytest.CaptureFixture[str]) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=2, recorded=1, controls="stock")
    (study.store.folder / STATUS).mkdir()
    engine = Pretend(study.store, "eca@P3", lambda run: None)
    assert [run.name for run in carry_out(study.store, study.frozen_plan(), engine)] == ["stock-s1", "eca@P3-s1"]
    assert engine.asked == ["stock-s1", "eca@P3-s1"]
    assert capsys.readouterr().err.count("status.json is not up to date") == 1
    (study.store.folder / STATUS).rmdir()
    carry_out(study.store, study.frozen_plan(), engine)
    assert status.read(study.store.folder)["state"] == "ended"


def test_a_baseline_that_learned_nothing_stops_the_study(made_study: Make) -> None:
    study = made_study({"stock": 1.0, "eca@P3": 0.1}, seeds=2, recorded=1, controls="stock")
    kept = study.store.folder / "kept"
    study.store.records.rename(kept)

    def made(run: Run) -> None:
        study.store.records.mkdir(exist_ok=True)
        for file in kept.glob(f"{run.arm.slug}-s0.*"):
            (study.store.records / file.name.replace("-s0.", f"-s{run.seed}.")).write_bytes(file.read_bytes())

    engine = Pretend(study.store, "", made)
    with pytest.raises(PlanError, match=r"baseline's first run reached AP 0\.00 of 100.*anyway=True"):
        carry_out(study.store, study.frozen_plan(), engine)
    assert engine.asked == ["stock-s0", "eca@P3-s0"]
    assert "has learned nothing" in status.read(study.store.folder)["note"]
    assert carry_out(study.store, study.frozen_plan(), Pretend(study.store, "", made), anyway=True) == {}
    assert len(study.runs()) == 4


@pytest.mark.parametrize("part", [".json", ".npz", ".detections.json.gz"])
@pytest.mark.parametrize(
    "content", [b"", b"\x00half", b"[" * 100_000, None], ids=["empty", "garbage", "deep", "missing"]
)
def test_a_damaged_run_is_set_aside_and_carried_out_anew(made_study: Make, part: str, content: bytes | None) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=2, controls="stock")
    bad = study.store.records / f"eca@P3-s1{part}"
    if content is None:
        bad.unlink()
    else:
        bad.write_bytes(content)
    said: list[str] = []
    study.store.set_aside_damaged(said.append)
    if part == ".json" and content is None:
        assert said == []  # a run without a record was never finished
        return
    assert len(said) == 1
    assert bad.name in said[0]
    assert "carried out again" in said[0]
    assert len(study.runs()) == 3
    assert all((study.store.folder / DAMAGED / f"eca@P3-s1{end}").exists() for end in (".json",))
    again: list[str] = []
    study.store.set_aside_damaged(again.append)
    assert again == []


def test_damaged_files_of_the_study_itself_are_made_anew(made_study: Make) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=2, controls="stock")
    (study.store.folder / "costs.json").write_text("{")
    said: list[str] = []
    study.store.set_aside_damaged(said.append)
    assert len(said) == 1
    assert not (study.store.folder / "costs.json").exists()
    assert study.results.costs_note == "costs were not measured yet"


def test_a_seed_that_failed_is_not_asked_for_again(made_study: Make) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=3, max_seeds=6, controls="stock")
    frozen = study.frozen_plan()
    eca, stock = frozen.arm("eca@P3"), frozen.arm("stock")
    pair = gather(study.store, frozen).next_pair("eca@P3", "stock")
    assert pair == [Run(eca, 3), Run(stock, 3)]
    study.store.fail(Run(eca, 3), "out of memory")
    assert gather(study.store, frozen).next_pair("eca@P3", "stock") == [Run(eca, 4), Run(stock, 4)]
    study.store.fail(Run(eca, 4), "out of memory")
    study.store.fail(Run(stock, 5), "out of memory")
    assert gather(study.store, frozen).next_pair("eca@P3", "stock") == []  # the plan has no further seed


def test_a_status_that_cannot_be_read_is_none(made_study: Make) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=2, controls="stock")
    assert status.read(study.store.folder) == {}
    for content in ("{", "[" * 100_000):
        (study.store.folder / STATUS).write_text(content)
        assert status.read(study.store.folder) == {}
