"""Runs of a program that knows nothing of attngraft: paired, killed in the middle, completed, judged."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from attngraft._core.errors import DataError, PlanError
from attngraft._core.locks import held
from attngraft.cli.main import main
from attngraft.study.existing.records import judge_records
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.plan import Plan
from attngraft.study.running import engines, program, status
from attngraft.study.running.records import ELSEWHERE, Run, Store
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
    assert study.run(parallel=2, anyway=True) == {}
    by_arm = {(record.arm, record.seed): record for record in study.records()}
    assert sorted(by_arm) == [("squeeze", 0), ("squeeze", 1), ("stock", 0), ("stock", 1)]
    again = json.loads(
        (study.store.training(Run(study.frozen_plan().arm("stock"), 1)) / "predictions.json").read_text()
    )
    assert study.store.detections(Run(study.frozen_plan().arm("stock"), 1)) == again
    assert study.results.arm("squeeze").estimate.seeds == 2
    page = study.report().read_text()
    assert "squeeze" in page
    assert "the split val" not in page  # of a ground truth nobody knows which split it is


def test_a_study_of_a_program_survives_being_killed(truth: Path, slow: str, tmp_path: Path) -> None:
    folder = tmp_path / "a study"
    FrozenPlan(one := plan(truth, slow, arms="good,slow"), tuple(one.recipes())).write(folder)
    store, frozen = Store(folder), FrozenPlan.read(folder)
    hanging = Run(frozen.arm("slow"), 1)
    driver = subprocess.Popen(
        [sys.executable, "-m", "attngraft", "study", "resume", str(folder), "--trust", "parallel=2"]
    )
    note = store.training(hanging) / "pid"
    until(lambda: note.is_file() and note.read_text())  # it is there before it is written
    until(lambda: sum(store.has(Run(arm, 0)) for arm in frozen.arms) == 3)
    child = int(note.read_text())
    # A file that is being written has a name of its own until it is whole.
    kept = {file.name: file.read_bytes() for file in store.records.iterdir() if not file.name.startswith(".")}
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    until(lambda: not psutil.pid_exists(child))  # the program ends with the study that started it
    assert status.read(folder)["state"] == "running"  # its last word

    assert Study.open(folder).run(parallel=2) == {}
    assert {name: (store.records / name).read_bytes() for name in kept} == kept
    told = status.read(folder)
    assert told["state"] == "ended"
    assert [run["state"] for run in told["runs"]] == ["finished"] * 9
    results = Study.open(folder).results
    assert results.arm("good").estimate.difference == pytest.approx(50, abs=5)
    assert results.arm("slow").estimate.difference == pytest.approx(10, abs=2)


def test_a_run_of_another_process_has_not_failed(
    truth: Path, slow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(plan(truth, slow, arms="good"), folder=tmp_path / "study")
    study.prepare()
    impatient = "import sys, attngraft.study.running.run as it; it.PATIENCE = 0; sys.exit(it.main(sys.argv[1:]))"
    whole = engines.command
    monkeypatch.setattr(engines, "command", lambda *of: [sys.executable, "-c", impatient, *whole(*of)[3:]])
    run = Run(study.frozen_plan().arm("stock"), 1)
    with held(Path(f"{study.store.training(run)}.lock"), PlanError("nobody else has it")):
        assert study.run(parallel=2) == {run: ELSEWHERE}
        assert study.work(2) == (run, ELSEWHERE)
        assert study.store.failed() == []
        assert study.verdicts()[0].outcome == "interim"  # and no verdict on the other two seeds
    assert study.run(parallel=2) == {}
    assert study.verdicts()[0].outcome != "interim"


def test_control_c_says_how_to_resume(truth: Path, slow: str, tmp_path: Path) -> None:
    folder = tmp_path / "a study"
    FrozenPlan(one := plan(truth, slow, arms="slow"), tuple(one.recipes())).write(folder)
    driver = subprocess.Popen(
        [sys.executable, "-m", "attngraft", "study", "resume", str(folder), "--trust", "parallel=1"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in background shells
    )
    until(lambda: status.read(folder).get("state") == "running")
    driver.send_signal(signal.SIGINT)
    assert driver.communicate(timeout=WAIT)[1].endswith(
        f"attngraft: stopped; resume with: attngraft study resume '{folder}'\n"
    )
    assert driver.returncode == 1


@pytest.fixture
def touching(tmp_path: Path) -> Plan:
    """A plan whose program says where it ran."""
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, pathlib\n"
        "pathlib.Path(__file__).with_name('ran').touch()\n"
        "pathlib.Path(sys.argv[3], 'metric.json').write_text(str(len(sys.argv[1]) / 10 + int(sys.argv[2]) / 100))\n"
    )
    command = f"{sys.executable} {script} {{arm}} {{seed}} {{folder}}"
    return Plan.of({"data": "x", "base": "plain", "arms": "good", "seeds": 2, "metric": "top1", "command": command})


def test_a_folder_of_somebody_else_starts_nothing_without_a_word(
    touching: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Study(touching, folder=tmp_path / "begun").prepare()
    theirs = Path(shutil.copytree(tmp_path / "begun", tmp_path / "theirs"))
    refused = r"theirs was not begun here, and its plan starts a program: .*train.py \{arm\} .*say so once with --trust"
    for ask in (lambda: Study.open(theirs).run(parallel=1), lambda: Study.open(theirs).work(0)):
        with pytest.raises(PlanError, match=refused):
            ask()
    for words in (["resume", str(theirs)], ["work", str(theirs), "--run", "0"]):
        done = subprocess.run([sys.executable, "-m", "attngraft", "study", *words], capture_output=True, text=True)
        assert done.returncode
        assert "was not begun here" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert Study.open(theirs, trust=True).run(parallel=1) == {}
    assert f"every run starts: {touching.command}" in capsys.readouterr().out
    assert (tmp_path / "ran").exists()
    assert Study.open(theirs).run(parallel=1) == {}


def test_whoever_gave_the_plan_resumes_it_without_a_further_word(touching: Plan, tmp_path: Path) -> None:
    Study(touching, folder=tmp_path / "mine").prepare()
    run, why = Study.open(tmp_path / "mine").work(0)
    assert (run.seed, why) == (0, "")
    other = replace(touching, command=f"{touching.command} more")
    FrozenPlan(other, tuple(other.recipes())).write(tmp_path / "mine")
    with pytest.raises(PlanError, match="mine was not begun here, and its plan starts a program: .* more'"):
        Study.open(tmp_path / "mine").work(1)


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
        ({"group": "(p)", "metric": "top1"}, "'top1' is a number of a whole run"),
    ],
)
def test_what_only_ultralytics_has_is_refused(truth: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(truth, "a {arm} {seed} {folder}", **keys)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", r"ended without a result .* predictions\.json, .* or metric\.json there, its AP as a fraction"),
        ("raise SystemExit(7)", "ended with status 7"),
        ("import sys; open(sys.argv[3] + '/predictions.json', 'w').write('[')", "is not a JSON file"),
        (
            "import sys; open(sys.argv[3] + '/predictions.json', 'w').write('{}')",
            "a list of detections .* was expected, got dict",
        ),
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
        program.outcome(given, folder)

    with pytest.raises(DataError, match=message):
        whole()


NUMBERS = """
import sys, json, pathlib
arm, seed, folder = sys.argv[1:]
top1 = {"plain": 0.5, "good": 0.52}[arm] + 0.001 * (int(seed) * 7 % 5) + 0.0005 * (len(arm) * int(seed) % 3)
home = pathlib.Path(folder)
(home / "results.csv").write_text("epoch,metric\\n1,0.1\\n2," + str(top1) + "\\n")
(home / "metric.json").write_text(json.dumps({"top1": top1, "top5": top1 + 0.2}))
"""


def test_a_program_may_leave_numbers_alone(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(NUMBERS)
    command = f"{sys.executable} {script} {{arm}} {{seed}} {{folder}}"
    keys = {"data": "tiny-imagenet", "base": "plain", "arms": "good", "metric": "top1", "command": command}
    study = Study(Plan.of({**keys, "seeds": "3-8"}), folder=tmp_path / "study")
    assert study.run(parallel=2) == {}
    assert sorted(file.suffix for file in study.store.records.iterdir()) == [".json"] * 6  # decided at the first look
    results = study.results
    arm = results.arm("good")
    assert arm.verdict is not None
    assert (arm.verdict.outcome, arm.verdict.metric) == ("better", "top1")
    pairs = [2 + 0.05 * (4 * seed % 3 - 5 * seed % 3) for seed in range(3)]
    assert [arm.differences[seed] for seed in range(3)] == pytest.approx(pairs)
    assert arm.estimate.image_sd == 0
    assert list(results.breakdown.metrics) == ["top1", "top5"]
    assert results.breakdown.metrics["top5"]["good"].difference == pytest.approx(arm.estimate.difference)
    assert results.curves["good"] == [[10.0, pytest.approx(100 * value)] for value in (0.52, 0.5225, 0.525)]
    assert (results.setting.task, results.costs_note) == ("", "costs are not measured where a program of yours trains")
    assert next(run["value"] for run in status.read(study.folder)["runs"]) == pytest.approx(50)
    report = study.report().read_text()
    assert "better than plain" in report
    assert "images play no part" in report
    assert "metric that the program notes, in points" in report
    assert "by Ultralytics" not in report
    again = judge_records(study.folder)  # from plan.yaml and records.jsonl alone
    assert again.arm("good").verdict == arm.verdict

    (study.store.records / "good-s1.json").write_text("{")
    study.store.set_aside_damaged(lambda _: None)
    assert not study.store.has(Run(study.frozen_plan().arm("good"), 1))
    assert study.run(parallel=1) == {}
    assert study.results.arm("good").verdict == arm.verdict


def test_the_status_says_how_many_epochs_a_program_has_trained(truth: Path, tmp_path: Path) -> None:
    """How many there will be is the program's own matter."""
    study = Study(plan(truth, COMMAND), folder=tmp_path / "study")
    study.prepare()
    home = study.store.training(Run(study.frozen_plan().arm("good"), 1))
    home.mkdir(parents=True)
    (home / "results.csv").write_text("epoch,loss\n1,0.5\n2,0.4\n")
    done = CliRunner().invoke(main, ["study", "status", str(study.folder)])
    assert done.exit_code == 1, done.output
    assert [line.split("│")[3].strip() for line in done.output.splitlines() if "│ good" in line] == [
        "missing", "epoch 2", "missing",
    ]  # fmt: skip


def test_an_arm_with_the_numbers_of_the_baseline_stops_the_study(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("import sys; open(sys.argv[3] + '/metric.json', 'w').write('0.%d' % (int(sys.argv[2]) + 1))")
    command = f"{sys.executable} {script} {{arm}} {{seed}} {{folder}}"
    given = Plan.of({"data": "x", "base": "plain", "arms": "good", "seeds": 2, "metric": "top1", "command": command})
    with pytest.raises(PlanError, match="in every seed its numbers equal the baseline's"):
        Study(given, folder=tmp_path / "study").run(parallel=1)


def test_one_kind_of_outcome_a_study(truth: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, json\n"
        "arm, _, folder, truth = sys.argv[1:]\n"
        "rows = [dict(row, score=0.9) for row in json.load(open(truth))['annotations']]\n"
        "name, content = ('metric', 0.5) if arm == 'good' else ('predictions', rows)\n"
        "open(f'{folder}/{name}.json', 'w').write(json.dumps(content))\n"
    )
    given = plan(truth, f"{sys.executable} {script} {{arm}} {{seed}} {{folder}} {{data}}", seeds=1)
    (why,) = Study(given, folder=tmp_path / "study").run(parallel=1).values()
    assert "good, seed 0 left numbers alone, and stock-s0 detections" in why


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("71.5", "a fraction from 0 to 1 for top1, got 71.5; divide percent by 100"),
        ("NaN", "got nan; .* write 0 where a run diverged"),
        ("true", "got True"),
        ('{"top5": 0.5}', "has no number 'top1', .*top5"),
        ('{"top1": "0.5"}', "got '0.5'"),
        ("[0.5]", r"got \[0.5\]"),
        ("", "is not a JSON file"),
    ],
)
def test_a_number_that_is_no_fraction_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "metric.json").write_text(content)
    with pytest.raises(DataError, match=message):
        program.numbers("top1", tmp_path / "metric.json")


def test_a_command_that_cannot_be_started_is_named(truth: Path, tmp_path: Path) -> None:
    given = plan(truth, "no-such-program {arm} {seed} {folder}")
    with pytest.raises(PlanError, match="no-such-program cannot be started"):
        program.carry_out(given, Run(given.recipes()[0], 0), tmp_path)


def test_values_stay_one_word_whatever_is_in_them(truth: Path) -> None:
    given = plan(truth, "train {arm} --seed={seed} {folder}", arms=["two words; rm -rf '"])
    found = program.words(given, Run(given.recipes()[1], 4), Path("a folder"))
    assert found == ["train", "two words; rm -rf '", "--seed=4", "a folder"]
