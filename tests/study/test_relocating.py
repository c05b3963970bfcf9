"""A study whose data, weights or folder were moved goes on under its hash, on the same images alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import attngraft
from attngraft._core.errors import DataError, PlanError
from attngraft.cli.main import main
from attngraft.data import beacons
from attngraft.study import Study
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.home import other_plans
from tests.study.conftest import TINY


def run(words: str) -> Result:
    return CliRunner().invoke(main, ["study", *words.split()])


def moved(data: str | Path, to: Path) -> Path:
    """Move a data set, with the path that its file may have of itself."""
    old = Path(data).parent
    shutil.move(old, to)
    file = to / Path(data).name
    file.write_text(file.read_text().replace(str(old), str(to)))
    return file


def test_a_study_goes_on_where_everything_was_moved(tmp_path: Path) -> None:
    """Folder, data and weights lie elsewhere; runs of before and after are of one plan and one truth."""
    data, weights = beacons(tmp_path / "data", train=16, val=8), tmp_path / "best.pt"
    attngraft.YOLO("attngraft-micro.yaml").save(weights)
    keys = {**TINY, "base": str(weights), "data": str(data), "folds": 2, "arms": "eca@P3", "controls": "stock"}
    begun = Study(folder=tmp_path / "study", seeds=2, **keys)
    begun.prepare()
    before = begun.frozen_plan()
    assert begun.work(0)[1] == begun.work(1)[1] == ""

    shutil.move(tmp_path / "study", tmp_path / "elsewhere")
    there = moved(data, tmp_path / "new" / "data")
    shutil.move(weights, tmp_path / "new" / "base.pt")
    with pytest.raises(DataError, match=r"data.yaml of this study is not there; .* relocate .*elsewhere data=NEW"):
        Study.open(tmp_path / "elsewhere").run(parallel=1, anyway=True)
    assert run(f"relocate {tmp_path / 'elsewhere'} data={there}").exit_code == 0
    with pytest.raises(DataError, match=r"best.pt of this study is not there; .* base=NEW"):
        Study.open(tmp_path / "elsewhere").run(parallel=1, anyway=True)
    assert run(f"relocate {tmp_path / 'elsewhere'} base={tmp_path / 'new' / 'base.pt'}").exit_code == 0

    study = Study.open(tmp_path / "elsewhere")
    assert (study.plan.data, study.plan.base) == (str(there), str(tmp_path / "new" / "base.pt"))
    assert study.frozen_plan().hash == before.hash
    assert [arm.model for arm in study.frozen_plan().arms] == [
        arm.model.replace(str(weights), study.plan.base) for arm in before.arms
    ]
    assert study.run(parallel=1, anyway=True) == {}
    assert {record.plan for record in study.records()} == {before.hash}
    assert len(study.runs()) == 4
    assert str(there.parent) in str(next((tmp_path / "elsewhere/folds/1/images/val").iterdir()).resolve())


def test_other_images_are_refused(made_study: Callable[..., Study], tmp_path: Path) -> None:
    study = made_study({"stock": 0.5, "noop": 0.5, "eca@P3": 0.5})
    other = beacons(tmp_path / "other", train=1, val=8)
    with pytest.raises(DataError, match=r"other images than finished runs were evaluated on, such as .*\.png"):
        study.relocate(data=other)
    assert not (study.folder / FrozenPlan.MOVED).exists()


def test_changed_labels_are_refused_and_the_new_place_is_noted(
    made_study: Callable[..., Study], tmp_path: Path
) -> None:
    study = made_study({"stock": 0.5, "noop": 0.5, "eca@P3": 0.5})
    truth = study.store.truth()
    root = truth.pop("root")
    checksum = study.store.keep_truth(truth, Path(root))
    assert study.store.keep_truth(truth, tmp_path / "new") == checksum
    assert study.store.truth()["root"] == str(tmp_path / "new")
    truth["annotations"][0]["category_id"] ^= 1
    with pytest.raises(DataError, match="images or labels"):
        study.store.keep_truth(truth, tmp_path / "new")


def test_a_study_is_among_the_others_of_its_new_data(made_study: Callable[..., Study], tmp_path: Path) -> None:
    study = made_study({"stock": 0.5, "noop": 0.5, "eca@P3": 0.5})
    there = moved(study.plan.data, tmp_path / "new")
    study.relocate(data=there)
    assert [one.split()[0] for one in other_plans(tmp_path / "another", study.plan)] == ["study"]


def test_a_study_that_was_begun_on_windows_says_where_to_put_its_data(tiny_data: str, tmp_path: Path) -> None:
    keys = {**TINY, "data": r"C:\Users\me\fruit.yaml", "arms": "eca@P3", "controls": "stock"}
    study = Study(folder=tmp_path / "study", **keys)
    study.frozen_plan().write(study.store.folder)
    with pytest.raises(DataError, match=r"fruit.yaml of this study is not there; .* relocate"):
        Study.open(study.folder).run()
    study.relocate(data=tiny_data)
    assert Study.open(study.folder).plan.data == str(Path(tiny_data).resolve())


def test_what_cannot_be_relocated_is_said(made_study: Callable[..., Study], tmp_path: Path) -> None:
    study = made_study({"stock": 0.5, "noop": 0.5, "eca@P3": 0.5})
    with pytest.raises(PlanError, match="say what was moved where"):
        study.relocate()
    with pytest.raises(DataError, match=r"base=.*nothing.pt is no file"):
        study.relocate(base="nothing.pt")
    with pytest.raises(PlanError, match="no study to relocate"):
        Study(study.plan, folder=tmp_path / "empty").relocate(data=study.plan.data)
    for words in ("seeds=4", f"data={study.plan.data} seeds=4"):
        refused = run(f"relocate {study.folder} {words}")
        assert (refused.exit_code, "data=, base= or both" in refused.output) == (2, True)


def test_a_corrected_plan_forgets_places_of_before(tiny_data: str, tmp_path: Path) -> None:
    """Nothing was trained: the plan may be given again, and what was noted belongs to the one of before."""
    keys = {**TINY, "data": tiny_data, "arms": "eca@P3", "controls": "stock"}
    Study(folder=tmp_path / "study", seeds=2, **keys).prepare()
    copy = shutil.copytree(Path(tiny_data).parent, tmp_path / "copy") / Path(tiny_data).name
    Study.open(tmp_path / "study").relocate(data=copy)
    assert json.loads((tmp_path / "study" / FrozenPlan.MOVED).read_text()) == {"data": str(copy)}
    again = Study(folder=tmp_path / "study", seeds=3, **keys)
    again.prepare()
    assert Study.open(tmp_path / "study").plan.data == str(Path(tiny_data).resolve())
    assert yaml.safe_load((tmp_path / "study" / "plan.yaml").read_text())["seeds"] == 3
