"""The object and the command: one plan a folder, one process a study, exit codes, and what a dry run says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from filelock import FileLock
from ultralytics.utils import DEFAULT_CFG_DICT

from attngraft._core.errors import DataError, OptionError, OutputError, PlanError
from attngraft._core.progress import Silent
from attngraft.cli.main import main
from attngraft.data import beacons
from attngraft.study.plan import Plan
from attngraft.study.running.controls import WIDTHS, resolve_arms
from attngraft.study.running.records import Run
from attngraft.study.running.run import device_of
from attngraft.study.study import Study
from attngraft.yolo.options import data_channels
from attngraft.yolo.step import network, step
from tests.study.conftest import TINY

Make = Callable[..., Study]
WRONG = {"stock": 0.3, "noop": 0.3, "eca@P3": 0.0}


def command(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["study", *words])
    return done.exit_code, done.output


def test_a_changed_plan_is_a_new_study(made_study: Make) -> None:
    study = made_study(WRONG)
    other = Study(Plan.of({**TINY, "data": study.plan.data, "arms": "eca@P3", "seeds": 9}), folder=study.folder)
    with pytest.raises(PlanError, match=r"seeds was 4, now 9.*a changed plan is a new study"):
        other.run()


def test_a_refused_study_leaves_nothing_behind(tmp_path: Path, tiny_data: str) -> None:
    study = Study(folder=tmp_path / "home" / "new", **{**TINY, "data": tiny_data, "arms": "eca@P3"})
    with pytest.raises(PlanError, match="engine is local or ray, got 'slurm'"):
        study.run(engine="slurm")  # type: ignore[arg-type]
    assert not (tmp_path / "home").exists()
    (tmp_path / "home" / "new").mkdir(parents=True)
    with pytest.raises(PlanError, match="engine is local or ray"):
        study.run(engine="slurm")  # type: ignore[arg-type]
    assert list((tmp_path / "home" / "new").iterdir()) == []


def test_a_plan_may_be_corrected_until_something_was_trained(tmp_path: Path, tiny_data: str) -> None:
    keys = {**TINY, "data": tiny_data, "arms": "eca@P3", "controls": "stock"}
    first = Study(folder=tmp_path / "study", **keys)
    first.frozen_plan().write(first.store.folder)
    first.store.fail(Run(first.frozen_plan().arms[0], 0), "the disk was full")
    second = Study(folder=tmp_path / "study", **keys, seeds=2)
    assert second.frozen_plan().plan.seeds == 2
    row = second.store.training(Run(second.frozen_plan().arms[0], 0)) / "results.csv"
    row.parent.mkdir(parents=True)
    row.write_text("epoch\n1\n")
    with pytest.raises(PlanError, match="seeds was 3, now 2"):
        second.frozen_plan()


def test_two_processes_do_not_carry_out_one_study(made_study: Make) -> None:
    study = made_study(WRONG)
    with FileLock(study.store.folder / ".lock"), pytest.raises(PlanError, match="another process is carrying out"):
        study.run()


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path, tiny_data: str) -> None:
    (tmp_path / "file").write_text("")
    study = Study(folder=tmp_path / "file" / "study", **{**TINY, "data": tiny_data, "arms": "eca@P3"})
    with pytest.raises(OutputError, match="choose another folder"):
        study.run()


def test_the_command_says_how_a_study_stands(made_study: Make) -> None:
    study = made_study(WRONG, seeds=2)
    code, out = command("status", str(study.folder))
    assert (code, len(re.findall(r" AP \d", out))) == (0, 6)
    assert "eca@P3 is " in out
    (study.store.records / "eca@P3-s1.json").unlink()
    code, out = command("status", str(study.folder))
    assert (code, out.count("missing")) == (1, 1)
    code, out = command("report", str(study.folder))
    assert code == 0
    assert "report.html written" in out.replace("\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["arms=eca@P5"], "a plan needs data"),
        (["data=x.yaml", "arms=eca@P5", "epoch=3"], "did you mean epochs"),
        (["data=x.yaml", "arms=msha@P5"], "no mechanism is called 'msha'"),
        (["status"], "say which study"),
        (["status", "nowhere"], "nowhere holds no study"),
        (["resume", "nowhere", "epochs=3"], "nowhere holds no study"),
        (["nowhere.yaml"], "expected a YAML file, and nowhere.yaml is not there"),
        (["a.yaml", "b.yaml"], "expected one plan"),
        (["data=x.yaml", "arms=mhsa@P5", "ema@P4", "seeds=3"], "in the place of blanks, as in: arms=mhsa@P5,ema@P4"),
        (
            ["data=x.yaml", "arms=mhsa@P5", ",", "ema@10.attn"],
            "in the place of blanks, as in: arms=mhsa@P5,ema@10.attn",
        ),
    ],
)
def test_words_that_make_no_sense_end_with_two(words: list[str], message: str) -> None:
    code, out = command(*words)
    assert code == 2
    assert message in " ".join(out.split())


def test_a_dry_run_says_what_a_study_takes_and_writes_nothing(tiny_data: str, tmp_path: Path) -> None:
    keys = [f"{key}={value}" for key, value in TINY.items() if key != "train"]
    code, out = command(f"data={tiny_data}", "arms=eca@P3", "seeds=2", "folder=new", *keys, "--dry-run")
    assert code == 0, out
    assert "8 runs" in out
    assert "plain_conv" in out
    assert "parameters more than its base" in " ".join(out.split())
    assert "Nothing was run or written" in " ".join(out.split())
    assert not (tmp_path / "new").exists()


def test_a_dry_run_on_a_cpu_times_few_pictures_whatever_the_batch(
    tiny_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []

    def noting(recipe: str, options: Mapping[str, Any], channels: int) -> Callable[[], None]:
        timed.append((options["batch"], channels))
        return step(recipe, options, channels)

    monkeypatch.setattr("attngraft.yolo.step.step", noting)
    said: list[str] = []

    class Steps(Silent):
        def started(self, what: str) -> None:
            said.append(what)

    plan = {**TINY, "data": tiny_data, "arms": "eca@P3", "seeds": 2, "batch": 64, "device": "cpu"}
    Study(**plan).forecast(progress=Steps())
    assert set(timed) == {(2, 3)}
    assert said[:3] == ["resolving the arms", "timing stock", "timing noop"]


def test_the_conv_control_costs_what_its_arm_costs() -> None:
    plan = Plan.of({**TINY, "data": "x.yaml", "arms": "mhsa@P3,eca@P3,se@P3,attngraft-micro.yaml"})
    arms = {arm.name: arm for arm in resolve_arms(plan).arms}
    assert list(arms)[:2] == ["stock", "noop"]
    matched = arms["conv for mhsa@P3"]
    added, wanted = (int(word.replace(",", "")) for word in matched.note.split() if word[0].isdigit())
    assert abs(added / wanted - 1) < 0.05
    assert "conv for attngraft-micro.yaml" not in arms
    narrowest = arms["conv for eca@P3"]
    assert "width=1)" in narrowest.model
    assert "%" in narrowest.note  # it misses by far, and says so


def test_the_conv_control_may_match_by_measured_latency() -> None:
    plan = Plan.of({**TINY, "data": "x.yaml", "arms": "mhsa@P3", "match": "latency", "imgsz": 32})
    control = resolve_arms(plan).arms[-1]
    said = re.fullmatch(r"measured latency [+-]\d+\.\d % beside its arm's, at width (\d+)", control.note)
    assert said
    assert int(said[1]) in WIDTHS
    assert control.model.endswith(f"+plain_conv(width={said[1]})@P3")
    assert control.against == ("mhsa@P3",)


def test_latency_is_matched_on_images_of_as_many_channels_as_the_data_have(gray_model: Path, tmp_path: Path) -> None:
    """Of weights that take one channel, and of a YAML that would take three."""
    data = tmp_path / "gray.yaml"
    data.write_text("path: .\ntrain: a\nval: b\nchannels: 1\nnames: [a]\n")
    for base in (str(gray_model), "attngraft-micro.yaml"):
        keys = {**TINY, "base": base, "data": str(data), "arms": "se@P3", "match": "latency", "imgsz": 32}
        assert resolve_arms(Plan.of(keys)).arms[-1].note.startswith("measured latency")
        step(base, {**DEFAULT_CFG_DICT, "batch": 1, "imgsz": 32, "device": "cpu"}, 1)()
    built = network("attngraft-micro.yaml+mhsa@P3", data_channels(str(data)))
    assert next(built.parameters()).shape[1] == 1
    assert [type(part).__name__ for part in built.modules() if type(part).__name__ == "MHSA"] == ["MHSA"]
    assert next(network("attngraft-micro.yaml", data_channels("x.yaml")).parameters()).shape[1] == 3


def test_what_is_measured_is_measured_on_the_device_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the first, which another program may be using."""
    plans = {device: Plan.of({**TINY, "data": "x.yaml", "arms": "se@P3", "device": device}) for device in ("cpu", "1")}
    assert {word: device_of(plan) for word, plan in plans.items()} == {"cpu": "cpu", "1": "cpu"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert {word: device_of(plan) for word, plan in plans.items()} == {"cpu": "cpu", "1": "cuda:1"}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_of(plans["1"]) == "cuda"


def test_a_folder_with_files_of_the_users_is_not_filled(tmp_path: Path, tiny_data: str) -> None:
    """A run begins by removing what stands in its folder, which may be a user's own run."""
    mine = tmp_path / "project" / "runs" / "stock" / "s0" / "weights" / "best.pt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    study = Study(folder=tmp_path / "project", **{**TINY, "data": tiny_data, "arms": "eca@P3"})
    for begin in (study.prepare, study.run):
        with pytest.raises(OutputError, match=r"project holds runs, which no study wrote.*name another folder"):
            begin()
    assert mine.read_text() == "mine"
    shutil.rmtree(tmp_path / "project" / "runs")
    (tmp_path / "project" / "breakdown.tex").write_text("mine")
    with pytest.raises(OutputError, match=r"project holds breakdown\.tex, which no study wrote"):
        study.prepare()
    assert not study.begun


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"group": r"(patient\d+)_"}, r"the image .*\.png has no group by group: \(patient"),
        ({"group": r"(\d)\d*\.png"}, "puts all 8 images into one group.*correct the expression"),
        ({"folds": 2, "group": "(.)", "seeds": 2}, "2 folds need as many images or groups of images, got 1"),
    ],
    ids=str,
)
def test_groups_that_do_not_fit_are_said_before_anything_is_trained(
    keys: dict[str, Any], message: str, tiny_data: str, tmp_path: Path
) -> None:
    study = Study(folder=tmp_path / "study", **{**TINY, "data": tiny_data, "arms": "eca@P3", **keys})
    for ask in (study.forecast, study.prepare):
        with pytest.raises(DataError, match=message):
            ask()
    assert not study.begun


def test_one_mechanism_under_two_names_is_one_arm(tiny_data: str) -> None:
    plan = Plan.of({**TINY, "data": tiny_data, "arms": ["se@P3", "SEAttention@P3"]})
    with pytest.raises(PlanError, match=r"se@P3 and SEAttention@P3 are the same arm, attngraft-micro\.yaml\+se@P3"):
        resolve_arms(plan)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"base": "yolo11n-obb.yaml"}, "yolo11n-obb.yaml is for the task obb; train with a program of yours"),
        ({"base": "yolo11n-pose.yaml"}, "yolo11n-pose.yaml is for the task pose"),
        (
            {"arms": "eca@P3,yolo11n-seg.yaml"},
            "yolo11n-seg.yaml is for the task segment, and the baseline attngraft-micro.yaml for detect",
        ),
    ],
)
def test_tasks_that_cannot_be_compared_are_refused_before_anything_is_trained(
    tiny_data: str, tmp_path: Path, keys: dict[str, str], message: str
) -> None:
    study = Study(
        folder=tmp_path / "study", **{**TINY, "data": tiny_data, "arms": "eca@P3", "controls": "stock", **keys}
    )
    for refused in (study.run, study.prepare, study.forecast):
        with pytest.raises((PlanError, OptionError), match=re.escape(message)):
            refused()
    assert not study.folder.exists()


def test_images_that_cannot_carry_a_verdict_are_said_before_anything_is_trained(tmp_path: Path) -> None:
    """A class that is missing from a fold stopped the study at the run of that seed."""
    data = beacons(tmp_path / "set", train=6, val=6)
    for at, label in enumerate(sorted((tmp_path / "set" / "labels").rglob("*.txt"))):
        label.write_text(f"{int(at == 0)} 0.5 0.5 0.2 0.2\n1.0 0.4 0.4 0.1 0.1\n" if at < 2 else "0 0.5 0.5 0.2 0.2\n")
    keys = {**TINY, "data": str(data), "arms": "eca@P3"}
    rare = Study(folder=tmp_path / "rare", **keys, folds=3, seeds=3, metric="AP/red + AP/green")
    for image in sorted((tmp_path / "set" / "images" / "val").iterdir())[1:]:
        image.unlink()
    single = Study(folder=tmp_path / "single", **keys)
    bare = beacons(tmp_path / "bare", train=2, val=2)
    for label in (tmp_path / "bare" / "labels" / "val").iterdir():
        label.write_text("")
    empty = Study(folder=tmp_path / "empty", **{**keys, "data": str(bare)})
    for study, said in (
        (
            rare,
            r"fold \d of 3 has no object of the class 'green', so that AP/red \+ AP/green has no value there; lower",
        ),
        (empty, "the split 'val' has no object, so that AP has no value there; name another split, or label its"),
        (single, r"there is one image to evaluate on, .*\.png.*two or more to tell"),
    ):
        with pytest.raises(DataError, match=said):
            study.prepare()
        assert not study.begun
    Study(folder=tmp_path / "common", **keys, folds=3, seeds=3, metric="AP/red").prepare()
