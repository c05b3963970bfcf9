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


def test_the_wheels_are_all_that_the_package_needs_but_torch(gpu: Any) -> None:
    listed = set(re.findall(r"^([\w-]+)==", gpu.PACKAGES.read_text(), re.MULTILINE))
    dependencies = (ROOT / "pyproject.toml").read_text().split("\ndependencies = [")[1].split("\n]")[0]
    needed = set(re.findall(r'^    "([\w-]+)', dependencies, re.MULTILINE))
    assert needed - listed == {"torch"}
    assert all(gpu.installed(package) for package in ("torch", "click"))
    assert not gpu.installed("no-such-distribution")
