"""The script for an accelerator that is at hand for minutes runs on the CPU, and stops what overruns."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "tools" / "gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu", module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_every_stage_finishes_in_the_small_setting(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--quick", "--minutes", "60", "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "gpu.py", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = tmp_path / "benchmarks" / "results"
    (summary,) = results.glob("gpu-*.json")
    record = json.loads(summary.read_text())
    assert {stage["name"]: stage["ended"] for stage in record["stages"]} == dict.fromkeys(
        ("tests", "kernels", "detectors", "probes"), "finished"
    )
    slug = summary.stem.removeprefix("gpu-")
    assert (results / f"mhsa-bfloat16-{slug}.json").is_file()
    assert (results / f"detectors-{slug}.json").is_file()
    assert (tmp_path / "studies" / f"probes-{slug}" / "records.jsonl").is_file()
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(record, json.loads((ROOT / "benchmarks" / "schema_gpu.json").read_text()))


def test_probes_are_named_after_what_trains_them(gpu: Any, tmp_path: Path) -> None:
    assert gpu.in_names("NVIDIA H200 (MIG 1g)") == "nvidia-h200-mig-1g"
    (*_, last) = gpu.stages("cuda", tmp_path, "amd-epyc", quick=False)
    assert str(tmp_path / "studies" / "probes-amd-epyc") in last.command


def test_what_overruns_is_stopped_with_all_that_it_started(gpu: Any, tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    child = f"import time, pathlib\nwhile True: pathlib.Path({str(alive)!r}).touch(); time.sleep(.05)"
    parent = f"import subprocess, sys\nprint('begun', flush=True)\nsubprocess.run([sys.executable, '-c', {child!r}])"
    outcome = gpu.run(gpu.Stage("endless", 1, ["-c", parent]), 3.0, "cpu", tmp_path)
    assert (outcome.ended, outcome.last_line) == ("stopped", "begun")
    assert alive.exists()
    time.sleep(0.3)
    alive.unlink()
    time.sleep(0.3)
    assert not alive.exists()


def test_a_stage_that_fails_is_said_to_have_failed(gpu: Any, tmp_path: Path) -> None:
    outcome = gpu.run(gpu.Stage("broken", 1, ["-c", "raise SystemExit('no such thing')"]), 60.0, "cpu", tmp_path)
    assert (outcome.ended, outcome.last_line) == ("failed", "no such thing")


def test_what_a_stage_prints_last_is_cut_and_any_bytes_are_read(gpu: Any, tmp_path: Path) -> None:
    printed = "import sys; sys.stdout.buffer.write(b'\\xff' * 5000)"
    outcome = gpu.run(gpu.Stage("garbage", 1, ["-c", printed]), 60.0, "cpu", tmp_path)
    assert (outcome.ended, outcome.last_line) == ("finished", "\ufffd" * gpu.SHOWN)


def test_what_ignores_being_told_to_end_is_ended(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "GRACE", 0.5)
    deaf = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(99)"
    )
    outcome = gpu.run(gpu.Stage("deaf", 1, ["-c", deaf]), 3.0, "cpu", tmp_path)
    assert (outcome.ended, outcome.last_line) == ("stopped", "deaf")
    assert outcome.seconds < 60


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "0"], "argument --minutes: invalid positive value: '0'"),
        (["--minutes", "nan"], "argument --minutes: invalid positive value: 'nan'"),
        (["--device", "banana"], "gpu.py cannot use the device banana: Expected one of cpu, cuda"),
        (["--device", "cpu", "--wheels", "/no/such"], "there is no folder /no/such"),
        (["--device", "cpu", "--output", __file__], "test_gpu.py (Not a directory); name another folder with --output"),
    ],
)
def test_what_cannot_work_is_one_sentence(words: list[str], said: str) -> None:
    command = [sys.executable, ROOT / "tools" / "gpu.py", "--quick", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_wheels_that_pip_does_not_take_are_one_sentence(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "PACKAGES", tmp_path / "gpu.txt")
    gpu.PACKAGES.write_text("no-such-distribution==1.0\n")
    with pytest.raises(SystemExit, match=r"pip did not install from .*downloaded for Python 3\.\d+"):
        gpu.install(tmp_path)


def test_the_wheels_are_all_that_the_package_needs_but_torch(gpu: Any) -> None:
    listed = set(re.findall(r"^([\w-]+)==", gpu.PACKAGES.read_text(), re.MULTILINE))
    dependencies = (ROOT / "pyproject.toml").read_text().split("\ndependencies = [")[1].split("\n]")[0]
    needed = set(re.findall(r'^    "([\w-]+)', dependencies, re.MULTILINE))
    assert needed - listed == {"torch"}
    assert all(gpu.installed(package) for package in ("torch", "click"))
    assert not gpu.installed("no-such-distribution")
