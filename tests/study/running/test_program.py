"""Runs of a program that knows nothing of attngraft: paired, killed in the middle, completed, judged."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from attngraft._core.errors import DataError, PlanError
from attngraft.study.fixed import Fixed
from attngraft.study.plan import Plan
from attngraft.study.running import program, status
from attngraft.study.running.records import Run, Store
from attngraft.study.study import Study

EXAMPLE = Path(__file__).parents[3] / "examples" / "any_program.py"
COMMAND = f"{sys.executable} {EXAMPLE} {{arm}} {{seed}} {{folder}}"
WAIT = 240

SLOW = """
import sys, json, pathlib, time
arm, seed, folder, truth = sys.argv[1:]
home = pathlib.Path(folder)
(home / "pid").write_text(str(__import__("os").getpid()))
waited = pathlib.Path(truth).with_name("waited")
if arm == "slow" and seed == "1" and not waited.exists():
    waited.write_text("")
    time.sleep(600)
truth = json.loads(pathlib.Path(truth).read_text())
share = {"good": 1.0, "slow": 0.6}.get(arm, 0.5)
rows = [{"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"],
         "score": 0.9 if (a["id"] + int(seed)) % 10 < 10 * share else 0.2} for a in truth["annotations"]]
(home / "predictions.json").write_text(json.dumps([row for row in rows if row["score"] > 0.5]))
"""


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    images = [{"id": i, "width": 64, "height": 64, "file_name": f"{i}.png"} for i in range(1, 31)]
    boxes = [
        {"id": i, "image_id": i, "bbox": [5, 5, 20, 20], "area": 400, "category_id": 0, "iscrowd": 0}
        for i in range(1, 31)
    ]
    file = tmp_path / "truth.json"
    file.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 0, "name": "box"}]}))
    return file


@pytest.fixture
def slow(tmp_path: Path) -> str:
    script = tmp_path / "a program with blanks.py"
    script.write_text(SLOW)
    return f"{sys.executable} '{script}' {{arm}} {{seed}} {{folder}} {{data}}"


def plan(truth: Path, command: str, **keys: Any) -> Plan:
    return Plan.of({"data": str(truth), "base": "plain", "arms": "good", "seeds": 3, "command": command, **keys})


def until(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not there():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_the_example_is_studied_from_its_own_command_line(tmp_path: Path) -> None:
    file = tmp_path / "truth.json"
    subprocess.run([sys.executable, str(EXAMPLE), "truth", str(file)], check=True)
    study = Study(plan(file, COMMAND, arms="squeeze", seeds=2), folder=tmp_path / "study")
    assert study.run(workers=2, anyway=True) == {}
    by_arm = {(record.arm, record.seed): record for record in study.records()}
    assert sorted(by_arm) == [("squeeze", 0), ("squeeze", 1), ("stock", 0), ("stock", 1)]
    again = json.loads((study.store.training(Run(study.fixed().arm("stock"), 1)) / "predictions.json").read_text())
    assert study.store.detections(Run(study.fixed().arm("stock"), 1)) == again
    assert study.results.arm("squeeze").estimate.seeds == 2
    assert "squeeze" in study.report().read_text()


def test_a_study_of_a_program_survives_being_killed(truth: Path, slow: str, tmp_path: Path) -> None:
    folder = tmp_path / "a study"
    Fixed(one := plan(truth, slow, arms="good,slow"), tuple(one.recipes())).write(folder)
    store, fixed = Store(folder), Fixed.read(folder)
    hanging = Run(fixed.arm("slow"), 1)
    driver = subprocess.Popen([sys.executable, "-m", "attngraft", "study", "resume", str(folder), "parallel=2"])
    note = store.training(hanging) / "pid"
    until(note.is_file)
    until(lambda: sum(store.has(Run(arm, 0)) for arm in fixed.arms) == 3)
    child = int(note.read_text())
    kept = {file.name: file.read_bytes() for file in store.records.iterdir()}
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    until(lambda: not psutil.pid_exists(child))  # the program ends with the study that started it
    assert status.read(folder)["state"] == "running"  # its last word

    assert Study.open(folder).run(workers=2) == {}
    assert {name: (store.records / name).read_bytes() for name in kept} == kept
    told = status.read(folder)
    assert told["state"] == "ended"
    assert [run["state"] for run in told["runs"]] == ["finished"] * 9
    results = Study.open(folder).results
    assert results.arm("good").estimate.difference == pytest.approx(50, abs=5)
    assert results.arm("slow").estimate.difference == pytest.approx(10, abs=2)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train.py {arm} {seed}", r"it needs \{folder\}"),
        ("train.py {arm} {seed} {folder} {gpu}", r"there is no \{gpu\}"),
        ("train.py '{arm} {seed} {folder}", "close every quote"),
        ("train.py {arm {seed} {folder}", "close every quote"),
    ],
)
def test_a_command_that_cannot_be_is_refused_before_the_plan_is_fixed(truth: Path, command: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(truth, command)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"epochs": 3}, "'epochs' is Ultralytics'"),
        ({"folds": 3}, "a program of yours has splits of its own"),
        ({"arms": "plain"}, "leave it out there"),
    ],
)
def test_what_only_ultralytics_has_is_refused(truth: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(truth, "a {arm} {seed} {folder}", **keys)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", r"ended without predictions\.json"),
        ("raise SystemExit(7)", "ended with status 7"),
        ("import sys; open(sys.argv[3] + '/predictions.json', 'w').write('[')", "cannot be read as JSON"),
        ("import sys; open(sys.argv[3] + '/predictions.json', 'w').write('{}')", "expected a list of detections"),
    ],
)
def test_a_program_that_leaves_nothing_usable_is_told_so(truth: Path, tmp_path: Path, code: str, message: str) -> None:
    script = tmp_path / "bad.py"
    script.write_text(code)
    given = plan(truth, f"{sys.executable} {script} {{arm}} {{seed}} {{folder}}")
    run, folder = Run(given.recipes()[0], 0), tmp_path / "run"
    folder.mkdir()

    def whole() -> None:
        program.carry_out(given, run, folder)
        program.detections(given, folder)

    with pytest.raises(DataError, match=message):
        whole()


def test_a_command_that_cannot_be_started_is_named(truth: Path, tmp_path: Path) -> None:
    given = plan(truth, "no-such-program {arm} {seed} {folder}")
    with pytest.raises(PlanError, match="no-such-program cannot be started"):
        program.carry_out(given, Run(given.recipes()[0], 0), tmp_path)


def test_values_stay_one_word_whatever_is_in_them(truth: Path) -> None:
    given = plan(truth, "train {arm} --seed={seed} {folder}", arms=["two words; rm -rf '"])
    found = program.words(given, Run(given.recipes()[1], 4), Path("a folder"))
    assert found == ["train", "two words; rm -rf '", "--seed=4", "a folder"]
