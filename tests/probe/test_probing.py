"""A real tiny probe: its processes, what resumes, and what a crash leaves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

import attngraft
from attngraft._core.errors import OptionError, OutputError, PlanError, RecipeError, UnknownNameError
from attngraft._core.progress import Lines
from attngraft._core.registry import unregister
from attngraft.probe import everything, opened, probe
from attngraft.probe.instrument import ProbeRun
from attngraft.probe.probing import planned

CRASH = """
import os
from torch import nn
class ProbeTestCrash(nn.Module):
    def __init__(self, channels):
        super().__init__()
    def forward(self, x):
        os._exit(7)
"""

KERNEL = """
from torch import nn
class ProbeTestKernel(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, SIZE, padding=SIZE // 2)
    def forward(self, x):
        return self.conv(x)
"""


def test_the_first_seed_of_everything_comes_first() -> None:
    runs = planned(["se"], ["reach", "count"], seeds=2, controls=1)
    assert runs[:4] == [ProbeRun(m, p, False, 0) for p in ("reach", "count") for m in ("none", "se")]
    assert [run.control for run in runs] == [False] * 4 + [True] * 4 + [False] * 4
    assert [run.seed for run in runs] == [0] * 8 + [1] * 4
    assert "noop" not in everything()
    assert {"mhsa", "plain_conv"} <= set(everything())


def test_runs_are_kept_failures_are_said_and_what_is_missing_is_added(tmp_path: Path) -> None:
    file = tmp_path / "probe_test_crash.py"
    file.write_text(CRASH)
    lines: list[str] = []
    keys = {"probes": "reach", "epochs": 1, "images": 16, "controls": 0, "folder": tmp_path / "out", "parallel": 1}
    try:
        found = attngraft.probe(
            [f"{file}:ProbeTestCrash", "se"],
            seeds=1,
            progress=Lines(lines.append),
            **keys,  # type: ignore[arg-type]
        )
    finally:
        unregister("probe_test_crash")
    assert lines[0] == "3 runs, 0 of them finished before"
    assert "probe_test_crash on reach, seed 0: failed: its process ended with status 7" in lines[2]
    assert [one.name for one in found.mechanisms] == ["none", "se"]
    status = json.loads((tmp_path / "out/status.json").read_text())
    assert status["state"] == "ended"
    assert [run["state"] for run in status["runs"]] == ["finished", "failed", "finished"]
    again: list[str] = []
    more = probe("se", seeds=2, progress=Lines(again.append), **keys)  # type: ignore[arg-type]
    assert again[0] == "4 runs, 2 of them finished before"
    assert more.runs == 4
    status = json.loads((tmp_path / "out/status.json").read_text())
    assert all(run["state"] == "finished" and run["epoch"] == 1 for run in status["runs"])
    assert opened(tmp_path / "out") == more


def test_another_class_of_the_same_name_is_no_earlier_run(tmp_path: Path) -> None:
    """In the folder of one file, neither the same file after a change nor another counts as run before."""
    first, second = (tmp_path / name / "probe_test_kernel.py" for name in "ab")
    for file, kernel in ((first, 1), (second, 3)):
        file.parent.mkdir()
        file.write_text(KERNEL.replace("SIZE", str(kernel)))
    keys = f"probes='reach', seeds=1, controls=0, epochs=1, images=16, parallel=1, folder={str(tmp_path / 'out')!r}"

    def call(file: Path) -> tuple[int, str]:
        code = f"import attngraft; attngraft.probe({f'{file}:ProbeTestKernel'!r}, {keys})"
        done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
        return done.returncode, done.stderr

    assert call(first)[0] == 0
    records = tmp_path / "out" / "records.jsonl"
    before = [json.loads(line) for line in records.read_text().splitlines()]
    assert {one["mechanism"]: one["source"] for one in before} == {
        "none": "", "probe_test_kernel": hashlib.sha256(first.read_bytes()).hexdigest()[:16],
    }  # fmt: skip
    code, said = call(second)
    assert code != 0
    assert "holds runs of another probe_test_kernel: the file that defines its class had other content" in said
    records.write_text("".join(json.dumps(one) + "\n" for one in before if one["mechanism"] == "none"))
    assert call(second)[0] == 0
    (again,) = opened(tmp_path / "out").mechanisms[1:]
    width = before[1]["parameters"] - before[0]["parameters"]
    assert again.parameters > 8 * width  # 3 x 3 weights for each of the first one's


def test_a_killed_call_leaves_no_process_and_resumes(tmp_path: Path) -> None:
    words = ["-m", "attngraft", "probe", "se", "probes=reach", "controls=0", "parallel=1", "-o", str(tmp_path)]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    children: list[psutil.Process] = []
    while not children and time.monotonic() < deadline:
        children = psutil.Process(process.pid).children()
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert children
    assert alive == []
    with pytest.raises(PlanError, match="images was 800, now 16"):
        probe("se", probes="reach", images=16, folder=tmp_path)


def test_one_process_fills_a_folder(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(PlanError, match="another process fills"):
        probe("se", probes="reach", folder=tmp_path)


def test_bad_input_is_said_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with pytest.raises(OptionError, match="at least one mechanism, got none"):
        probe([], folder=folder)
    with pytest.raises(RecipeError, match="no mechanism is called 'sse'"):
        probe("sse", folder=folder)
    for nothing in ("", " , ", []):
        with pytest.raises(OptionError, match="at least one probe, got none; there are: global, legend"):
            probe("se", probes=nothing, folder=folder)
    with pytest.raises(UnknownNameError, match="no probe is called 'raech'; did you mean reach"):
        probe("se", probes="count,raech,", folder=folder)
    for key, value in {"seeds": 0, "epochs": True, "images": "9", "parallel": -1}.items():
        with pytest.raises(OptionError, match=f"probe needs {key} to be a positive integer, got {value!r}"):
            probe("se", folder=folder, **{key: value})  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="probe needs controls to be an integer of 0 or more, got -1"):
        probe("se", folder=folder, controls=-1)
    with pytest.raises(OptionError, match="channels=64 and heads=7"):
        probe("mhsa(heads=7)", folder=folder)
    assert not folder.exists()
    file = tmp_path / "file"
    file.touch()
    for taken in (file, file / "in"):
        with pytest.raises(OutputError, match=r"cannot write .*file(/in)? \(.*\); choose another folder"):
            probe("se", probes="reach", folder=taken)
        with pytest.raises(PlanError, match="holds no probes"):
            opened(taken)
    file.unlink()
    (tmp_path / "records.jsonl").write_text("mine")
    with pytest.raises(OutputError, match=r"holds records\.jsonl, which is of no probes"):
        probe("se", probes="reach", folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]
