"""A full disk and too little memory are called by name, and the same command completes when there is room."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from attngraft.cli.groups import Commands


def attngraft_command(*words: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    def lower() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "attngraft", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=lower)


def test_a_file_that_cannot_grow_is_named_and_the_same_command_completes(tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    words = ["graft", "attngraft-micro.yaml", "eca@P3", "-o", str(out)]
    said = attngraft_command(*words, limit=100_000)
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert f"{out} is not written: the disk is full or a size limit is reached; free some space" in said.stderr
    assert list(tmp_path.iterdir()) == []
    assert attngraft_command(*words).returncode == 0
    assert out.exists()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/results.csv"), "runs/results.csv: the disk is full; "),
        (MemoryError(), "memory ran out; lower batch"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory ran out; lower batch"),
        (ImportError("libtorch.so: cannot map segment: Cannot allocate memory"), "memory ran out; lower batch"),
    ],
)
def test_what_ran_out_is_one_sentence_whoever_raised_it(error: Exception, sentence: str) -> None:
    @click.group(cls=Commands)
    def group() -> None:
        """Run."""

    @group.command()
    def fail() -> None:
        """Fail."""
        raise error

    said = CliRunner().invoke(group, ["fail"])
    assert said.exit_code == 1
    assert said.stderr.startswith(f"attngraft: {sentence}")
    assert said.stderr.count("\n") == 1
