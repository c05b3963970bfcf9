"""What is completed exists: keys, values, mechanisms, options and places are those that the commands take."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import pytest

from attngraft.attention import info, names
from attngraft.cli import bench, declared, doctor, fit, study
from attngraft.cli.completion import COMMANDS, PLACES, complete
from attngraft.coco.average_precision import METRICS
from attngraft.fit.options import Options
from attngraft.study.plan import CONTROLS, Plan
from attngraft.yolo import Recipe


def words(command: str, incomplete: str, *given: str, verbs: tuple[str, ...] = ()) -> list[str]:
    return [item.value for item in complete(command, incomplete, given, verbs)]


def test_mechanisms_and_their_options_are_those_of_the_registry() -> None:
    ours = [name for name in names() if info(name).cls.__module__.startswith("attngraft.attention.")]
    assert list(declared.mechanisms()) == sorted(ours)
    for name in ours:
        assert set(declared.options(name)) <= set(info(name).options), name
        assert len(declared.options(name)) >= len(info(name).options) - 1, name
    assert declared.options("nothing") == ()


@pytest.mark.parametrize("place", PLACES)
def test_every_place_can_stand_in_a_recipe(place: str) -> None:
    assert Recipe.parse(f"yolo11n+se@{place}").grafts[0].places == (place,)


def test_fields_of_plans_and_of_fit_are_all_there_and_explained() -> None:
    assert [field.name for field in declared.fields("attngraft.study.plan", "Plan")] == [f.name for f in fields(Plan)]
    read = declared.fields("attngraft.fit.options", "Options")
    assert {field.name for field in read} == {f.name for f in fields(Options)}
    assert all(field.about for field in read)
    assert words("study run", "match=") == ["match=parameters", "match=latency"]
    assert words("fit run", "optimizer=") == ["optimizer=sgd", "optimizer=adam", "optimizer=adamw"]
    assert words("fit run", "flip=") == ["flip=True", "flip=False"]
    assert set(words("study run", "metric=")) >= {f"metric={name}" for name in METRICS}
    assert words("study run", "controls=stock,") == [f"controls=stock,{name}" for name in CONTROLS]


@pytest.mark.parametrize(
    ("command", "incomplete", "found"),
    [
        ("train", "epo", "epochs="),
        ("train", "model=yolo11n+mhs", "model=yolo11n+mhsa"),
        ("train", "model=yolo11n.pt+MHS", "model=yolo11n.pt+mhsa"),
        ("train", "model=yolo11n+se@P4+mls", None),
        ("train", "model=yolo11n+bo", "model=yolo11n+bot"),
        ("train", "model=yolo11n+mhsa(heads=4,pos", "model=yolo11n+mhsa(heads=4,position="),
        ("train", "model=yolo11n+mhsa(init=", "model=yolo11n+mhsa(init=paper"),
        ("train", "model=yolo11n+mhsa(heads=4)@P5,p", "model=yolo11n+mhsa(heads=4)@P5,P3"),
        ("train", "model=yolo11n-mh", None),
        ("train", "model=attngraft-m", "model=attngraft-micro.yaml"),
        ("train", "optimizer=Ad", "optimizer=AdamW"),
        ("train", "amp=", "amp=True"),
        ("export", "format=onn", "format=onnx"),
        ("study run", "arms=mhsa@P5,em", "arms=mhsa@P5,ema"),
        ("study run", "arms=mhsa@P5,N", "arms=mhsa@P5,N4"),
        ("study run", "arms=ema(groups=8)@P3,yolo11s+s", "arms=ema(groups=8)@P3,yolo11s+simam"),
        ("study search", "mechanisms=se,ec", "mechanisms=se,eca"),
        ("study search", "places=P3,P", "places=P3,P4"),
        ("bench", "yolo11n+ec", "yolo11n+eca"),
        ("bench", "backends=eager,on", "backends=eager,onnxruntime"),
        ("doctor", "ec", "eca"),
        ("fit run", "model=botnet5", "model=botnet50"),
    ],
)
def test_what_is_completed(command: str, incomplete: str, found: str | None) -> None:
    values = words(command, incomplete)
    assert found in values if found else not values


def test_paths_are_completed_with_folders_and_fitting_files() -> None:
    Path("data/images").mkdir(parents=True)
    for name in ("data/my.yaml", "data/best.pt", "data/notes.txt", "data/.hidden.yaml"):
        Path(name).touch()
    assert words("train", "data=d") == ["data=data/"]
    assert words("train", "data=data/") == ["data=data/images/", "data=data/my.yaml"]
    assert words("train", "model=data/") == ["model=data/best.pt", "model=data/images/", "model=data/my.yaml"]
    assert words("train", "data=nowhere/") == []


def test_a_key_that_is_given_is_not_offered_again() -> None:
    assert "epochs=" not in words("train", "ep", "epochs=3")
    assert "model=" in words("bench", "mo", "model=yolo11n")
    assert words("study run", "resu", verbs=("run", "resume"))[0] == "resume"
    assert "resume" not in words("study run", "resu", "plan.yaml", verbs=("run", "resume"))


@pytest.mark.parametrize(
    ("command", "taken"),
    [
        ("study run", study.RUN_KEYS),
        ("study resume", study.RUN_KEYS),
        ("study search", (*study.RUN_KEYS, *study.SEARCH_KEYS)),
        ("bench", bench.KEYS),
        ("doctor", doctor.KEYS),
        ("fit predict", set(fit.PREDICT_KEYS) - {"out"}),
        ("export", {"images"}),
    ],
)
def test_every_key_that_a_command_takes_is_completed(command: str, taken: Iterable[str]) -> None:
    assert set(taken) <= set(COMMANDS[command].keys())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_is_offered(command: str) -> None:
    keys = COMMANDS[command].keys()
    assert set(words(command, "")) >= {f"{key}=" for key in keys}


def test_completion_is_quick_since_it_imports_little() -> None:
    code = (
        "import os, sys; sys.argv = ['attngraft']; os.environ.update(_ATTNGRAFT_COMPLETE='bash_complete', "
        "COMP_WORDS='attngraft train model=yolo11n+mhs', COMP_CWORD='2')\n"
        "from attngraft.cli import main\ntry:\n    main()\nexcept SystemExit: pass\n"
        "print({'torch', 'ultralytics', 'numpy', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "plain,model=yolo11n+mhsa\nset()\n"
