"""Runs by the host itself: pairing, what a killed or failing run leaves behind, and both engines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.plan import Plan
from attngraft.study.running import run as runs
from attngraft.study.running.records import Run, Store
from attngraft.study.study import Study
from attngraft.yolo.training import PairingLog, train
from tests.study.conftest import TINY

WAIT = 150


def fix(folder: Path, data: str, **keys: Any) -> FrozenPlan:
    plan = Plan.of({**TINY, "data": data, "arms": "eca@P3", "controls": "stock", "seeds": 1, **keys})
    frozen = FrozenPlan(plan, tuple(plan.recipes()))
    frozen.write(folder)
    return frozen


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect what each training really starts from and is shown, beside the checksums."""
    trainings: list[dict[str, Any]] = []
    callbacks = PairingLog.callbacks

    def started(trainer: Any) -> None:
        weights = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        trainings.append({"weights": weights, "batches": []})
        prepare = trainer.preprocess_batch

        def noting(batch: dict[str, Any]) -> dict[str, Any]:
            trainings[-1]["batches"].append((batch["img"].clone(), batch["bboxes"].clone(), batch["cls"].clone()))
            prepared: dict[str, Any] = prepare(batch)
            return prepared

        trainer.preprocess_batch = noting

    def watching(self: PairingLog) -> dict[str, Any]:
        own = callbacks(self)
        first = own["on_train_start"]
        return {**own, "on_train_start": lambda trainer: (first(trainer), started(trainer))}

    monkeypatch.setattr(PairingLog, "callbacks", watching)
    return trainings


@pytest.mark.parametrize("weights", [False, True], ids=["yaml", "weights"])
def test_arms_of_one_seed_start_alike_and_see_the_same(
    weights: bool, tiny_data: str, tmp_path: Path, seen: list[dict[str, Any]]
) -> None:
    base = "attngraft-micro.yaml"
    options = dict(Plan.of({**TINY, "data": tiny_data, "arms": "eca@P3"}).train)
    if weights:
        train(base, tiny_data, seed=5, folder=tmp_path / "base", options=options)
        base = str(tmp_path / "base" / "weights" / "last.pt")
        seen.clear()
    arms = (base, f"{base}+mhsa@P3", f"{base}+plain_conv@P3")
    notes = [train(arm, tiny_data, seed=3, folder=tmp_path / str(n), options=options) for n, arm in enumerate(arms)]
    stock, *others = seen
    for other in others:
        assert len(other["weights"]) > len(stock["weights"])
        assert all(torch.equal(value, other["weights"][key]) for key, value in stock["weights"].items())
        for one, two in zip(stock["batches"], other["batches"], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    facts = [(note.weights, note.batches, note.pictures, note.batch) for note in notes]
    assert facts[0] == facts[1] == facts[2]
    assert len(stock["batches"]) == 2
    other_seed = train(base, tiny_data, seed=4, folder=tmp_path / "other", options=options)
    assert other_seed.batches != notes[0].batches
    assert (other_seed.weights == notes[0].weights) is weights


def test_a_full_disk_is_recorded(tiny_data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    frozen = fix(tmp_path, tiny_data, interrupted="resume")
    store, run = Store(tmp_path), Run(frozen.arms[0], 0)
    weights = store.training(run) / "weights"
    weights.mkdir(parents=True)
    (weights / "last.pt").symlink_to("/dev/full")
    assert runs.main([str(tmp_path), "stock", "0"]) == runs.FAILED
    assert "No space left" in store.failure(run)
    assert not store.has(run)
    (weights / "last.pt").unlink()
    assert runs.main([str(tmp_path), "stock", "0"]) == 0
    assert store.failure(run) == ""
    assert store.record(run).plan == frozen.hash


def test_a_data_set_that_went_missing_is_recorded(tiny_data: str, tmp_path: Path) -> None:
    shutil.copytree(Path(tiny_data).parent, tmp_path / "data")
    data = tmp_path / "data" / "data.yaml"
    fix(tmp_path / "study", str(data))
    data.unlink()
    assert runs.main([str(tmp_path / "study"), "eca@P3", "0"]) == runs.FAILED
    failures = json.loads((tmp_path / "study" / "failures" / "eca@P3-s0.json").read_text())
    assert "data.yaml" in failures["error"]


class Pretend:
    """An engine that trains nothing: it copies a finished record, or fails where it is told to."""

    def __init__(self, store: Store, failing: str, made: Callable[[Run], None]) -> None:
        self.store, self.failing, self.made = store, failing, made
        self.workers = 2
        self.asked: list[str] = []
        self.going: list[Run] = []

    def free(self) -> bool:
        return len(self.going) < 2

    def start(self, run: Run) -> None:
        self.asked.append(run.name)
        self.going.append(run)

    def running(self) -> list[Run]:
        return self.going

    def ended(self) -> Iterator[tuple[Run, str]]:
        run = self.going.pop(0)
        if run.arm.name != self.failing:
            self.made(run)
        yield run, "it crashed" if run.arm.name == self.failing else ""

    def stop(self) -> None:
        self.going.clear()


def test_an_arm_that_crashes_stops_no_other(made_study: Callable[..., Study]) -> None:
    from attngraft.study.running.schedule import carry_out

    study = made_study({"stock": 0.3, "noop": 0.3, "eca@P3": 0.1, "se@P3": 0.4}, seeds=2)
    kept = study.store.folder / "kept"
    study.store.records.rename(kept)

    def made(run: Run) -> None:
        study.store.records.mkdir(exist_ok=True)
        for file in kept.glob(f"{run.name}.*"):
            shutil.copy(file, study.store.records)

    engine = Pretend(study.store, "se@P3", made)
    failed = carry_out(study.store, study.frozen_plan(), engine)
    assert [run.name for run in failed] == ["se@P3-s0", "se@P3-s1"]
    assert study.store.failure(next(iter(failed))) == "it crashed"
    assert len(study.runs()) == 6
    again = Pretend(study.store, "", made)
    assert carry_out(study.store, study.frozen_plan(), again) == {}
    assert again.asked == ["se@P3-s0", "se@P3-s1"]


def test_a_sequential_plan_adds_seeds_until_it_is_decided(made_study: Callable[..., Study]) -> None:
    from attngraft.study.running.schedule import carry_out

    study = made_study({"stock": 0.3, "eca@P3": 0.0, "se@P3": 0.31}, seeds=3, max_seeds=7, controls="stock", recorded=7)
    kept = study.store.folder / "kept"
    study.store.records.rename(kept)

    def made(run: Run) -> None:
        study.store.records.mkdir(exist_ok=True)
        for file in kept.glob(f"{run.name}.*"):
            shutil.copy(file, study.store.records)

    engine = Pretend(study.store, "", made)
    carry_out(study.store, study.frozen_plan(), engine, more=lambda: study._more(study.frozen_plan()))
    assert "se@P3-s6" in engine.asked
    assert "eca@P3-s4" in engine.asked  # a gap as large as this is no verdict before five seeds
    assert "eca@P3-s5" not in engine.asked
    assert len(engine.asked) == len(set(engine.asked))


def test_a_run_that_was_killed_inside_an_epoch_becomes_the_run_that_it_would_have_been(
    tiny_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = {}
    for name in ("whole", "killed"):
        frozen = fix(tmp_path / name, tiny_data, epochs=3)
        run, store = Run(frozen.arm("eca@P3"), 0), Store(tmp_path / name)
        if name == "killed":
            callbacks = PairingLog.callbacks

            def die(trainer: Any) -> None:
                if trainer.epoch == 1:
                    raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(
                    PairingLog, "callbacks", lambda self, of=callbacks: {**of(self), "on_train_batch_end": die}
                )
                with pytest.raises(KeyboardInterrupt):
                    runs.perform(tmp_path / name, run, frozen)
            assert (store.training(run) / "weights" / "last.pt").is_file()
        runs.perform(tmp_path / name, run, frozen)
        records[name] = store.record(run).watch
    whole, killed = records["whole"], records["killed"]
    assert killed["resumed"] == []
    assert (killed["batches"], killed["weights"], killed["final"]) == (
        whole["batches"],
        whole["weights"],
        whole["final"],
    )
    assert len(set(whole["batches"])) == 3


def attngraft(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "attngraft", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT
    while not there():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_study_survives_kills_of_its_driver_and_its_runs(tiny_data: str, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    frozen = fix(folder, tiny_data, epochs=25, interrupted="resume")
    store, (stock, eca) = Store(folder), [Run(arm, 0) for arm in frozen.arms]
    words = ["study", "resume", str(folder), "parallel=2", "anyway=True"]
    (folder / "costs.json").write_text('{"measurements": []}')

    def epochs(run: Run) -> int:
        """Count the epochs of which a checkpoint is whole; the row of an epoch is written before its checkpoint."""
        row, checkpoint = store.training(run) / "results.csv", store.training(run) / "weights" / "last.pt"
        is_kept = checkpoint.is_file() and checkpoint.stat().st_mtime_ns > row.stat().st_mtime_ns
        return len(runs.curve(store.training(run))) - (not is_kept)

    driver = attngraft(*words)
    until(lambda: min(epochs(stock), epochs(eca)) >= 1)
    children = psutil.Process(driver.pid).children()
    driver.kill()
    driver.communicate()
    assert len(children) == 2
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive  # no orphan goes on, to be run a second time beside the next driver's

    before = epochs(eca)
    driver = attngraft(*words)
    until(lambda: epochs(eca) > before + 1)
    (victim,) = [p for p in psutil.Process(driver.pid).children() if "eca@P3" in p.cmdline()]
    os.kill(victim.pid, signal.SIGKILL)
    out, err = driver.communicate(timeout=WAIT)
    assert driver.returncode == 1, err.decode()
    assert "eca@P3, seed 0: failed: its process was ended by SIGKILL" in out.decode()
    assert store.has(stock)
    finished = (folder / "records" / "stock-s0.json").read_bytes()

    study = Study.open(folder)
    assert study.run(parallel=2, anyway=True) == {}
    assert (folder / "records" / "stock-s0.json").read_bytes() == finished
    record = store.record(eca)
    assert len(record.watch["resumed"]) == 2
    assert len(record.curve) == len(record.watch["batches"]) == 25
    assert store.log(stock).read_text().count("Starting training for") == 2
    assert store.log(eca).read_text().count("Starting training for") == 3
    assert not study.comparable()  # resumed runs saw other batches than they would have: they are no pair
    assert study.results.reproducibility.resumed.keys() >= {"eca@P3 at seed 0"}


def test_ray_makes_the_same_records(tiny_data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="needs the [ray] extra")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    here, there = fix(tmp_path / "here", tiny_data), fix(tmp_path / "there", tiny_data)
    assert here.hash == there.hash
    assert runs.main([str(tmp_path / "here"), "eca@P3", "0"]) == 0
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=None)
    try:
        study = Study.open(tmp_path / "there")
        run = Run(there.arm("eca@P3"), 0)
        engine = study._engine(there, None, "ray", None, None)
        assert engine.workers == 2  # type: ignore[attr-defined]
        engine.start(run)
        deadline = time.monotonic() + WAIT
        ended: list[tuple[Run, str]] = []
        while not ended and time.monotonic() < deadline:
            ended = list(engine.ended())
            time.sleep(0.1)
    finally:
        ray.shutdown()
    assert ended == [(run, "")]
    same = [
        replace(Store(tmp_path / place).record(run), seconds=0, finished="", curve=[], environment={})
        for place in ("here", "there")
    ]
    assert same[0] == same[1]


def test_a_run_that_diverges_is_an_outcome(tiny_data: str, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    frozen = fix(folder, tiny_data, epochs=9, box=1e38, arms="eca@P3")
    assert runs.main([str(folder), "stock", "0"]) == 0
    record = Store(folder).record(Run(frozen.arm("stock"), 0))
    assert record.watch["diverged"]
    assert record.numbers["AP"] == 0
    assert Store(folder).detections(Run(frozen.arm("stock"), 0)) == []


def test_a_run_ends_with_its_study_whatever_process_lies_between(tmp_path: Path) -> None:
    """A virtual environment's python.exe on Windows is a launcher: the run is then a child of the study's child."""
    worker = (
        "import sys, time; from pathlib import Path; from attngraft.study.running.run import end_with_parent\n"
        "end_with_parent(int(sys.argv[1])); Path('begun').touch(); time.sleep(600)"
    )
    launcher = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"
    code = (
        "import os, subprocess, sys\n"
        f"between = subprocess.Popen([sys.executable, '-c', {launcher!r}, '-c', {worker!r}, str(os.getpid())])\n"
        "between.wait()"
    )
    study = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    try:
        until((tmp_path / "begun").is_file)
        time.sleep(1.5)  # three times as long as it takes to look
        *_, run = psutil.Process(study.pid).children(recursive=True)
        assert run.ppid() != study.pid
        assert run.is_running()
        study.kill()
        study.wait()
        until(lambda: not run.is_running())
    finally:
        runs.end_children(study.pid)
        study.kill()
        study.wait()
