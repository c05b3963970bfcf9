"""What ran out, told from real errors of real limits."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap

import pytest

from attngraft._core.shortage import shortage


@pytest.mark.parametrize("take", ["bytearray(1 << 42)", "torch.empty(1 << 42)", "numpy.empty(1 << 42)"])
def test_memory_is_named_whoever_asked_for_it(take: str) -> None:
    code = f"""
        import resource
        import numpy, torch
        from attngraft._core.shortage import shortage
        resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
        try:
            {take}
        except Exception as error:
            print(shortage(error))
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("memory ran out; ")


def test_the_cause_is_looked_at() -> None:
    error = ValueError("results.csv is broken")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert shortage(error) == "the disk is full; free some space and run the same command again"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "No such file"),
        RuntimeError("PytorchStreamReader failed reading zip archive: not a ZIP archive"),
        ValueError("out of range"),
        KeyError("memory"),
    ],
)
def test_nothing_is_read_into_other_errors(error: Exception) -> None:
    assert shortage(error) is None


def test_errors_in_a_circle_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    assert shortage(first) is None
