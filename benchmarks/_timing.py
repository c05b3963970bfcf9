"""What the benchmark scripts share: contenders side by side, one JSON form, one table. `README.md` says how and why."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from attngraft._core.calls import Example, forward, training_step
from attngraft.measure import Environment, Timing, latency, memory

SCHEMA = "attngraft.benchmark/1"
RESULTS = Path(__file__).parent / "results"
FEWEST, MOST = 3, 40
"""Rounds of one comparison, whatever the seconds given to it."""


@dataclass(frozen=True)
class Contender:
    """One way to compute the same, or what it is compared with.

    Attributes:
        name: What the table calls it.
        module: What runs.
        example: Its input; tensors that require a gradient get one in the training step.
    """

    name: str
    module: nn.Module
    example: Example


@dataclass(frozen=True)
class Row:
    """What one contender took; see `attngraft.measure.Timing` for the times, whose ratios are to the first contender.

    Attributes:
        name: The contender.
        forward: Time of an inference.
        training: Time of forward and backward.
        forward_bytes: Peak of what an inference allocates, its output included.
        training_bytes: Peak of what forward and backward allocate, gradients of the inputs included.
        error: Length of the output's difference to what is exact, by the length of that; None where it was not taken.
    """

    name: str
    forward: Timing
    training: Timing
    forward_bytes: int
    training_bytes: int
    error: float | None = None


@dataclass(frozen=True)
class Case:
    """Contenders on one input.

    Attributes:
        name: The shapes, in words.
        rows: One for each contender; the first is what the others are compared with.
        note: What else a reader must know.
    """

    name: str
    rows: tuple[Row, ...]
    note: str = ""


def compare(
    name: str,
    contenders: Sequence[Contender],
    *,
    seconds: float,
    errors: Mapping[str, float] = MappingProxyType({}),
    note: str = "",
    processor_time: bool = False,
) -> Case:
    """Time contenders in interleaved rounds and measure their memory.

    Args:
        name: The shapes, in words.
        contenders: Who takes part; ratios are to the first.
        seconds: About how long the rounds of one mode may take, within `FEWEST` and `MOST` rounds.
        errors: Of the outputs of contenders, by their names; see `Row`.
        note: What else a reader must know.
        processor_time: Whether to count processor time; the note says so then.
    """
    times = {
        mode: _times({c.name: call(c.module, c.example) for c in contenders}, seconds, processor_time=processor_time)
        for mode, call in (("forward", forward), ("training", training_step))
    }
    return Case(
        name,
        tuple(
            Row(
                contender.name,
                times["forward"][contender.name],
                times["training"][contender.name],
                memory.peak(contender.module, contender.example),
                memory.peak(contender.module, contender.example, train=True),
                errors.get(contender.name),
            )
            for contender in contenders
        ),
        f"{note} Milliseconds are processor time.".strip() if processor_time else note,
    )


def _times(
    calls: dict[str, Callable[[], object]], seconds: float, *, processor_time: bool = False
) -> dict[str, Timing]:
    clock = time.process_time if processor_time else time.perf_counter
    start = clock()
    for call in calls.values():
        call()
    rounds = min(MOST, max(FEWEST, int(seconds / (clock() - start))))
    timings = latency.compare(calls, rounds=rounds, warmup=1, processor_time=processor_time)
    return {timing.name: timing for timing in timings}


def write(script: str, environment: Environment, cases: Sequence[Case], folder: Path = RESULTS) -> Path:
    """Write ``SCRIPT-DEVICE.json`` and the table of the same name.

    Args:
        script: Name of the benchmark.
        environment: What it ran on.
        cases: Its figures.
        folder: Where to write.

    Returns:
        The JSON file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = result_file(script, environment, folder)
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "script": script,
        "commit": commit(),
        "environment": asdict(environment),
    }
    record["cases"] = [asdict(case) for case in cases]
    file.write_text(json.dumps(record, indent=1, default=dict) + "\n", encoding="utf-8")
    head = f"# {script} on {environment.device}, {environment.threads} thread(s)\n\n"
    versions = f"{environment.date}, commit {record['commit']}, torch {environment.versions['torch']}.\n"
    file.with_suffix(".md").write_text(
        head + versions + "".join(f"\n{table(case)}" for case in cases), encoding="utf-8"
    )
    return file


def result_file(script: str, environment: Environment, folder: Path = RESULTS) -> Path:
    """Return ``SCRIPT-DEVICE.json``."""
    return folder / f"{script}-{re.sub(r'[^a-z0-9]+', '-', environment.device.lower()).strip('-')}.json"


def table(case: Case) -> str:
    """Write a case as a Markdown table; how many times faster than the first, with its 95 % interval."""
    with_errors = any(row.error is not None for row in case.rows)
    lines = [f"## {case.name}\n", *([f"{case.note}\n"] if case.note else [])]
    lines += [
        f"| | forward, ms | times as fast as {case.rows[0].name} | peak, MiB | forward+backward, ms | times as fast "
        f"| peak, MiB |{' error |' if with_errors else ''}",
        "|---|--:|--:|--:|--:|--:|--:|" + ("--:|" if with_errors else ""),
    ]
    lines += [
        f"| {row.name} | {row.forward.p50_ms:.1f} | {_speed(row.forward)} | {row.forward_bytes / 2**20:.1f} "
        f"| {row.training.p50_ms:.1f} | {_speed(row.training)} | {row.training_bytes / 2**20:.1f} |"
        + ("" if not with_errors else " – |" if row.error is None else f" {row.error:.1e} |")
        for row in case.rows
    ]
    return "\n".join(lines) + "\n"


def _speed(timing: Timing) -> str:
    return f"{1 / timing.ratio:.2f} ({1 / timing.ratio_high:.2f}-{1 / timing.ratio_low:.2f})"


def commit() -> str:
    """Return the commit of the source, marked where files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../src", ".", ":!results")
    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
