"""Output never ends a command: closed pipes, full devices, and terminals that know few signs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attngraft._core.outlets import spell

COMMAND = [sys.executable, "-m", "attngraft"]
SIGNS = "import attngraft._core.outlets as o; o.make_lenient(); print('20 × 20 – 果 \\udcff ✅')"
WORK = (
    "import os, sys, attngraft._core.outlets as o; o.make_lenient()\n"
    "for _ in range(3): print('x' * 100_000)\n"
    "sys.stdout.flush(); os.write(1, b'from below Python'); open('done', 'w').close(); print('y', file=sys.stderr)"
)


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"20 x 20 - \\u679c \\udcff ok\n"),
        ("latin-1", b"20 \xd7 20 - \\u679c \\udcff ok\n"),
        ("gbk", "20 × 20 – 果 ".encode("gbk") + b"\\udcff ok\n"),
        ("utf-8", "20 × 20 – 果 ".encode() + b"\\udcff \xe2\x9c\x85\n"),
    ],
)
def test_what_a_terminal_lacks_is_spelled_out(encoding: str, shown: bytes) -> None:
    assert run([sys.executable, "-c", SIGNS], PYTHONIOENCODING=encoding).stdout == shown


def test_no_other_failure_is_spelled() -> None:
    with pytest.raises(UnicodeDecodeError):
        spell(UnicodeDecodeError("ascii", b"\xff", 0, 1, "no"))


def test_work_goes_on_after_a_pipe_is_closed() -> None:
    done = run(["bash", "-c", f'set -o pipefail; {sys.executable} -c "$0" | head -c 5', WORK])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"xxxxx", b"y\n")
    assert Path("done").exists()


def test_work_goes_on_without_any_stdout() -> None:
    done = run(["bash", "-c", f'{sys.executable} -c "$0" >&-', WORK.replace("os.write(1, b'from below Python')", "1")])
    assert (done.returncode, done.stderr) == (0, b"y\n")
    assert Path("done").exists()


@pytest.mark.parametrize("line", ["list", "--help", "train --help", "study --help", "completion bash", "show nothing"])
def test_every_command_survives_a_reader_that_leaves(line: str) -> None:
    done = run(["bash", "-c", f"set -o pipefail; {' '.join(COMMAND)} {line} | true"])
    assert done.returncode == (2 if line == "show nothing" else 0)
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


@pytest.mark.parametrize(
    ("line", "environment"),
    [
        ("list", {"PYTHONIOENCODING": "ascii"}),
        ("show mhsa", {"PYTHONIOENCODING": "latin-1"}),
        ("train --help", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
        ("show nothing", {"PYTHONIOENCODING": "ascii"}),
    ],
)
def test_every_command_speaks_to_any_terminal(line: str, environment: dict[str, str]) -> None:
    done = run([*COMMAND, *line.split()], **environment)
    assert done.returncode == (2 if line == "show nothing" else 0), done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_an_output_that_is_lost_is_told_and_ends_with_one() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "attngraft: the output could not be written: No space left on device\n"
