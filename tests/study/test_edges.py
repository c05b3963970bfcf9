"""Studies at their edges: odd folders, a metric without objects, records of a search, other machines."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attngraft._core.errors import DataError, PlanError
from attngraft.data import beacons
from attngraft.study import Study
from attngraft.study.existing.records import judge_records
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.plan import Plan
from attngraft.study.running import engines
from attngraft.study.running.engines import Local, _far_run, received
from attngraft.study.running.folds import fold_data
from attngraft.study.running.records import Run, Store
from attngraft.study.running.run import curve
from attngraft.study.search import Search
from attngraft.yolo.splits import split_images
from tests.study.conftest import TINY

Make = Callable[..., Study]
WRONG = {"stock": 0.5, "noop": 0.5, "eca@P3": 0.1}


def data_set(home: Path, names: dict[str, list[str]], images: str = "images/{}") -> Path:
    """Write a data set with these images, black and without objects."""
    for split, files in names.items():
        for name in files:
            file = home / images.format(split) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32)).save(file)
    lines = [f"{split}: {images.format(split)}" for split in names]
    file = home / "data.yaml"
    file.write_text("\n".join([f"path: {home}", *lines, "names: [a]"]))
    return file


def plan(data: Path, **keys: Any) -> Plan:
    return Plan.of({**TINY, "data": str(data), "arms": "eca@P3", "controls": "stock", "seeds": 2, **keys})


def fold(data: Path, folder: Path, **keys: Any) -> dict[str, set[str]]:
    """Return the images of the first seed's splits, by the names that they have in the data set."""
    laid = Path(fold_data(plan(data, **keys), folder, 0)).parent / "images"
    return {split: {str(one.resolve()) for one in (laid / split).iterdir()} for split in ("train", "val")}


def test_groups_are_found_in_the_names_of_files(tmp_path: Path) -> None:
    """The folder of the split is no part of the name, and keeps no patient apart from himself."""
    names = {split: [f"ann{at}-{view}.png" for at in range(4) for view in (0, 1)] for split in ("train", "val")}
    names["val"] = [f"ann{at}-{view}.png" for at in range(4) for view in (2, 3)]
    for number, group in enumerate((r"(.+)-\d+", r"^(\w+)-")):
        splits = fold(data_set(tmp_path / "set", names), tmp_path / str(number), folds=2, group=group)
        patients = {split: {Path(one).name.split("-")[0] for one in files} for split, files in splits.items()}
        assert not patients["train"] & patients["val"]
        assert len(patients["val"]) == 2


def test_folds_are_the_same_in_every_place_where_splits_share_names(tmp_path: Path) -> None:
    """Roboflow's layout: train/images/x.png and val/images/x.png."""
    names = {split: [f"{at}.png" for at in range(12)] for split in ("train", "val")}
    found = []
    for place in ("here", "somewhere/else/entirely"):
        home = tmp_path / place
        splits = fold(data_set(home, names, "{}/images"), tmp_path / f"study-{len(found)}", folds=3)
        found.append({str(Path(one).relative_to(home)) for one in splits["val"]})
    assert found[0] == found[1]


def test_images_of_a_split_are_those_that_ultralytics_finds(tmp_path: Path) -> None:
    from ultralytics.data.base import BaseDataset

    data = data_set(tmp_path / "set", {"train": ["a.png", "b.png"], "val": ["v.png"]})
    home = tmp_path / "set/images/val"
    (home / "._v.png").write_bytes(b"of a Mac")
    (home / ".ipynb_checkpoints").mkdir()
    shutil.copy(home / "v.png", home / ".ipynb_checkpoints" / "v-checkpoint.png")
    (tmp_path / "linked").mkdir()
    shutil.copy(home / "v.png", tmp_path / "linked" / "w.png")
    (home / "more").symlink_to(tmp_path / "linked")
    theirs = BaseDataset.get_img_files(type("Host", (), {"prefix": "", "fraction": 1.0})(), str(home))
    assert [str(one) for one in split_images(str(data), "val")] == sorted(theirs)
    assert [one.name for one in split_images(str(data), "val")] == ["w.png", "v.png"]


def test_folds_are_evaluated_on_their_own_images(tmp_path: Path) -> None:
    data = data_set(tmp_path / "set", {"train": ["a.png"], "val": ["v.png"]})
    with pytest.raises(PlanError, match="split is val, got test"):
        plan(data, folds=2, split="test")
    with pytest.raises(PlanError, match="leave folds out, and study the winners"):
        Search(plan(data, arms="eca@P3,se@P3,simam@P3", folds=2), folder=tmp_path / "search")


def test_a_curve_is_read_whatever_a_program_writes(tmp_path: Path) -> None:
    for text, rows in {
        "metric\n0.1\n0.2\n": [{"epoch": 1.0, "metric": 0.1}, {"epoch": 2.0, "metric": 0.2}],
        "epoch,phase,metric\n3,warm,0.1\n4,main,0.2\n": [{"epoch": 3.0, "metric": 0.1}, {"epoch": 4.0, "metric": 0.2}],
        "epoch,metric\n1,0.1,extra\n2,0.2\n3,": [{"epoch": 1.0, "metric": 0.1}, {"epoch": 2.0, "metric": 0.2}],
        "words\nonly\n": [],
    }.items():
        (tmp_path / "results.csv").write_text(text)
        assert curve(tmp_path) == rows


def test_a_metric_of_which_no_image_has_an_object_is_named(made_study: Make) -> None:
    study = made_study(WRONG, seeds=3, metric="APl")
    with pytest.raises(DataError, match=r"has no APl at seed 0: the images .* no object of that size or class"):
        _ = study.results


def test_a_study_stops_at_the_first_run_that_lacks_its_metric(tiny_data: str, tmp_path: Path) -> None:
    keys = {**TINY, "data": tiny_data, "arms": "eca@P3", "controls": "stock", "metric": "APl"}
    study = Study(folder=tmp_path / "study", seeds=2, **keys)
    with pytest.raises(DataError, match=r"stock, seed 0 has no APl: .* begin a new study with another metric"):
        study.run(parallel=1, anyway=True)
    assert len(study.runs()) == 1


def test_types_of_errors_are_averaged_over_the_runs_that_have_them(made_study: Make) -> None:
    study = made_study(WRONG, seeds=3)
    whole = study.results.errors["eca@P3"]
    run = next(run for run in study.runs() if (run.arm.name, run.seed) == ("eca@P3", 0))
    record = study.store.record(run)
    others = [study.store.record(one).errors for one in study.runs() if one.arm == run.arm and one.seed]
    study.store.save(run, replace(record, errors={}), study.store.matches(run), study.store.detections(run))
    found = study.results.errors["eca@P3"]
    assert found.keys() == whole.keys()
    assert found["classification"] == pytest.approx(np.mean([one["classification"] for one in others]))


def test_a_class_that_an_arm_lacks_is_left_out_of_the_breakdown(made_study: Make, monkeypatch: Any) -> None:
    from attngraft.study.judging.breakdown import break_down
    from attngraft.study.judging.gather import gather

    study = made_study({**WRONG, "se@P3": 0.2}, seeds=5)
    evidence = gather(study.store, study.frozen_plan())
    whole = {arm: dict(evidence.breakdown(arm)) for arm in ("eca@P3", "se@P3")}
    del whole["se@P3"]["AP/green"]
    monkeypatch.setattr(type(evidence), "breakdown", lambda _, arm: whole[arm])
    assert list(break_down(evidence, 0.05).classes) == ["red"]


def test_records_of_a_search_and_of_runs_that_diverged_are_judged_as_at_home(made_study: Make) -> None:
    study = made_study({"stock": 0.6, "noop": 0.6, "eca@P3": 0.0}, seeds=6)
    run = next(run for run in study.runs() if (run.arm.name, run.seed) == ("eca@P3", 2))
    record = study.store.record(run)
    watch = {**record.watch, "diverged": True}
    study.store.save(run, replace(record, watch=watch), study.store.matches(run), study.store.detections(run))
    study.conclude()
    shutil.rmtree(study.store.records)
    judged = judge_records(study.folder).arm("eca@P3").verdict
    assert judged is not None
    assert judged.without_diverged is not None
    assert judged.outcome == "better"
    (study.folder / "search.json").write_text(json.dumps({"tried": 9, "fresh_split": False, "halves": True}))
    chosen = judge_records(study.folder).arm("eca@P3").verdict
    assert chosen is not None
    assert chosen.outcome == "undecided"


def test_an_extended_study_is_judged_from_its_records(made_study: Make) -> None:
    study = made_study(WRONG, seeds=2, max_seeds=4, recorded=6)
    study.extend(6)
    (study.folder / "records.jsonl").write_text(
        "".join(f"{file.read_text().replace(chr(10), '')}\n" for file in sorted(study.store.records.glob("*.json")))
    )
    assert judge_records(study.folder).arm("eca@P3").estimate.seeds == 6


def test_a_fixed_plan_that_was_changed_is_said_to_be(made_study: Make) -> None:
    study = made_study(WRONG, seeds=3)
    study.conclude()
    file = study.folder / FrozenPlan.FILE
    file.write_text(file.read_text().replace("sesoi: 0.5", "sesoi: 0.1"))
    with pytest.raises(PlanError, match="was changed after the study began"):
        judge_records(study.folder)


def test_a_damaged_file_is_named_with_what_brings_it_back(made_study: Make) -> None:
    for ending in (".json", ".npz"):
        study = made_study(WRONG, seeds=2)
        file = study.store.records / f"stock-s1{ending}"
        kept = file.read_bytes()
        file.write_bytes(kept[: len(kept) // 2])
        with pytest.raises(DataError, match=rf"stock-s1{ending} is damaged .* study resume sets it aside"):
            Study.open(study.folder).report()
        file.write_bytes(kept)


def test_a_damaged_ground_truth_is_named_with_what_brings_it_back(made_study: Make) -> None:
    study = made_study(WRONG, seeds=2)
    file = study.store.folder / "truth.json"
    for content in ('{"images": [', "{}", "[]"):
        file.write_text(content)
        with pytest.raises(DataError, match="truth.json is damaged; remove it, and the next run of the study writes"):
            Study.open(study.folder).report()
        with pytest.raises(DataError, match="truth.json is damaged"):
            study.store.keep_truth({"images": [], "annotations": [], "categories": []}, study.folder)
    file.unlink()
    assert Study.open(study.folder).report().is_file()


def test_no_run_is_counted_backwards(made_study: Make) -> None:
    with pytest.raises(PlanError, match="has the runs 0 to"):
        made_study(WRONG, seeds=2).work(-1)


def test_a_record_that_arrives_ends_a_failure_of_before(tmp_path: Path, made_study: Make) -> None:
    study = made_study(WRONG, seeds=2)
    run = study.runs()[0]
    parcel = study.store.parcel(run)
    study.store.fail(run, "it was too early")
    study.store.receive({name: content for name, content in parcel.items() if not name.startswith("truth")})
    assert study.store.failure(run) == ""


def test_a_run_on_other_images_of_another_machine_fails_alone(made_study: Make) -> None:
    study = made_study(WRONG, seeds=2)
    run, store = study.runs()[-1], study.store
    parcel = store.parcel(run)
    assert received(store, parcel) == ""
    truth = json.loads(parcel["truth.json"])
    truth["annotations"][0]["category_id"] ^= 1
    (store.records / f"{run.name}.json").unlink()
    why = received(store, {**parcel, "truth.json": json.dumps(truth).encode()})
    assert why.startswith("its files are left out: the images or labels on another machine")
    assert not store.has(run)


def test_another_machine_is_told_where_files_were_moved(made_study: Make, monkeypatch: Any) -> None:
    study = made_study(WRONG, seeds=2)
    seen: list[FrozenPlan] = []

    class Watched(Local):
        def start(self, run: Run) -> None:
            seen.append(FrozenPlan.read(self.store.folder))
            raise InterruptedError

    copy = shutil.copytree(Path(study.plan.data).parent, study.folder.parent / "copy") / "data.yaml"
    study.relocate(data=copy)
    monkeypatch.setattr(engines, "Local", Watched)
    plan = {name: (study.store.folder / name).read_bytes() for name in (FrozenPlan.FILE, FrozenPlan.MOVED)}
    with pytest.raises(InterruptedError):
        _far_run("/a/folder/that/is/not/here", plan, study.runs()[0])
    assert seen[0].plan.data == str(copy)


def test_runs_are_given_only_the_gpus_that_the_user_named(tmp_path: Path, monkeypatch: Any) -> None:
    import torch

    given: list[dict[str, str]] = []

    class Started:
        def __init__(self, words: list[str], env: dict[str, str], **_: Any) -> None:
            given.append(env)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(engines.subprocess, "Popen", Started)
    frozen = FrozenPlan(
        one := plan(data_set(tmp_path / "set", {"train": ["a.png"], "val": ["b.png"]})), tuple(one.recipes())
    )
    for named, wanted in {"2,5": ["2", "5"], None: ["0", "1"]}.items():
        given.clear()
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if named:
            monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", named)
        engine = Local(Store(tmp_path / str(named)))
        for arm in frozen.arms:
            engine.start(Run(arm, 0))
        for process in engine.processes.values():
            process.log.close()
        assert [env["CUDA_VISIBLE_DEVICES"] for env in given] == wanted


def test_a_base_that_became_a_file_is_relocated_with_its_arms(tmp_path: Path) -> None:
    """A checkpoint named without a path is downloaded into the working folder after the plan is fixed."""
    import attngraft

    data = beacons(tmp_path / "data", train=2, val=2)
    study = Study(folder=tmp_path / "study", **{**TINY, "base": "micro.pt", "data": str(data), "arms": "eca@P3"})
    FrozenPlan(study.plan, tuple(study.plan.recipes())).write(study.store.folder)
    attngraft.YOLO("attngraft-micro.yaml").save("micro.pt")
    there = shutil.move("micro.pt", tmp_path / "elsewhere.pt")
    shutil.copy(there, "micro.pt")
    Study.open(study.folder).relocate(base=there)
    assert {arm.model.split("+")[0] for arm in Study.open(study.folder).frozen_plan().arms} == {str(there)}
