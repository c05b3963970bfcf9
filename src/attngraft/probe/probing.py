"""`probe`: train the runs that are missing, keep their records, and say what came out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from attngraft._core.checks import not_negative, positive
from attngraft._core.errors import OptionError, PlanError
from attngraft._core.locks import alone
from attngraft._core.progress import SILENT, Progress
from attngraft.attention import names
from attngraft.data.probes import PROBES, probe_named
from attngraft.probe.crew import Crew, Step
from attngraft.probe.instrument import NONE, Instrument, ProbeRecord, ProbeRun
from attngraft.probe.ledger import RECORDS, Ledger, ProbeRunStatus
from attngraft.probe.names import canonical, checksum, require_buildable
from attngraft.probe.tally import Tally, tally
from attngraft.study.running.engines import fitting_workers

HOME = Path("runs/probe")
SEEDS = 3
CONTROLS = 1
"""Seeds of each control: it asks only whether the same images can be learned from at all."""

IDLE = ("noop",)
"""Mechanisms that do nothing: the detector without one is there already."""


def probe(
    mechanisms: str | Sequence[str],
    *,
    probes: str | Sequence[str] | None = None,
    seeds: int = SEEDS,
    controls: int = CONTROLS,
    folder: str | Path = HOME,
    parallel: int | None = None,
    epochs: int | None = None,
    images: int | None = None,
    progress: Progress = SILENT,
) -> Tally:
    """Find out what mechanisms can learn at all, on generated images where the answer is known by construction.

    Each mechanism is trained in one small detector on each probe and on its control, and so is the detector without a
    mechanism. What is finished is kept, and a further call adds what is missing: more seeds, probes or mechanisms.

    Args:
        mechanisms: Such as ``"mhsa"``, ``"mhsa(heads=2)"`` or ``"mine.py:Mine"``; several as a list.
        probes: Names of probes (`attngraft.data.PROBES`); None takes all.
        seeds: Runs of each mechanism on each probe, from seed 0; equal seeds are paired.
        controls: Runs of each mechanism on each probe's control.
        folder: Where records and report are; made if it is not there.
        parallel: How many runs at once; None fits the machine.
        epochs: Epochs of a run; None takes the instrument's. The folder must be of the same.
        images: Training images; None takes the instrument's. The folder must be of the same.
        progress: Gets each run before it starts, and its record.

    Returns:
        What came out of every run in the folder, those of earlier calls included.

    Raises:
        RecipeError: If a mechanism cannot be read.
        UnknownNameError: If there is no such probe, or a file has no such class.
        OptionError: If a number is no positive integer, there is no mechanism, a file cannot be imported, or a
            mechanism cannot be built for the detector.
        PlaceError: If a mechanism cannot stand where the others do.
        PlanError: If another process fills the folder, or it holds probes of another instrument or of another class of
            the same name.
        OutputError: If the folder cannot be written.

    Example:
        >>> probe("mhsa", probes="reach", seeds=1)  # doctest: +SKIP
    """
    _check(seeds, controls, parallel)
    asked, sources = _read(mechanisms)
    wanted = planned(asked, _probes(probes), seeds, controls)
    instrument = _instrument(epochs, images)
    ledger = Ledger(Path(folder))
    require_buildable(asked, instrument)
    busy = PlanError(f"another process fills {ledger.folder}; wait for it, or name another folder")
    with alone(ledger.folder, busy, used=lambda: ledger.begun):
        ledger.open(instrument)
        known = ledger.records()
        _require_same(ledger, known, asked)
        missing = [run for run in wanted if run not in known]
        progress.line(f"{len(wanted)} runs, {len(wanted) - len(missing)} of them finished before")
        crew = Crew(ledger.folder, instrument, sources, parallel or fitting_workers())
        _carry_out(crew, ledger, wanted, missing, progress)
    return opened(ledger.folder)


def opened(folder: str | Path) -> Tally:
    """Return what came out of the runs in a folder, without training anything.

    Raises:
        PlanError: If it holds no probes.
        DataError: If a record cannot be read.
    """
    ledger = Ledger(Path(folder))
    return tally(ledger.instrument(), ledger.records().values())


def planned(mechanisms: Iterable[str], probes: Sequence[str], seeds: int, controls: int) -> list[ProbeRun]:
    """List the runs, the first seed of everything first, so that a table without gaps comes early.

    Args:
        mechanisms: Names as in records; the detector without one is added in front.
        probes: Names of probes.
        seeds: Of each probe.
        controls: Seeds of each control.
    """
    everyone = list(dict.fromkeys([NONE, *mechanisms]))
    runs = []
    for seed in range(max(seeds, controls)):
        for control in [False] * (seed < seeds) + [True] * (seed < controls):
            runs += [ProbeRun(one, probe, control, seed) for probe in probes for one in everyone]
    return runs


def everything() -> list[str]:
    """List the mechanisms of the registry that do something."""
    return [name for name in names() if name not in IDLE]


def _read(given: str | Sequence[str]) -> tuple[list[str], list[str]]:
    listed = [given] if isinstance(given, str) else list(given)
    if not listed:
        raise OptionError("probe needs at least one mechanism, got none; as in: probe(['mhsa', 'ema'])")
    pairs = [canonical(one) for one in listed]
    return list(dict.fromkeys(name for name, _ in pairs)), list(dict.fromkeys(s for _, s in pairs if s))


def _require_same(ledger: Ledger, known: Mapping[ProbeRun, ProbeRecord], asked: Iterable[str]) -> None:
    """Require that what is known of a mechanism is of the class that is asked for now."""
    now = {name: checksum(name) for name in asked}
    for run, record in known.items():
        if record.source != now.get(run.mechanism, record.source):
            raise PlanError(
                f"{ledger.folder} holds runs of another {run.mechanism}: the file that defines its class had other "
                f"content; name another folder, or take its lines out of {RECORDS} to have it run again"
            )


def _probes(given: str | Sequence[str] | None) -> list[str]:
    if given is None:
        return list(PROBES)
    listed = [word.strip() for word in given.split(",") if word.strip()] if isinstance(given, str) else list(given)
    if not listed:
        raise OptionError(f"probe needs at least one probe, got none; there are: {', '.join(PROBES)}")
    return [probe_named(name).name for name in dict.fromkeys(listed)]


def _instrument(epochs: int | None, images: int | None) -> Instrument:
    used = Instrument()
    epochs = used.epochs if epochs is None else epochs
    images = used.images if images is None else images
    positive("probe", epochs=epochs, images=images)
    return replace(used, epochs=epochs, images=images)


def _check(seeds: int, controls: int, parallel: int | None) -> None:
    positive("probe", seeds=seeds, parallel=1 if parallel is None else parallel)
    not_negative("probe", controls=controls)


def _carry_out(
    crew: Crew, ledger: Ledger, wanted: Sequence[ProbeRun], missing: Sequence[ProbeRun], progress: Progress
) -> None:
    """Train what is missing, and keep records and status as they come."""
    known = ledger.records()
    states = {run: _status(run, known.get(run)) for run in wanted}
    started, done, left = time.monotonic(), 0, None

    def tell(state: str = "running") -> None:
        ledger.tell(state, left, list(states.values()))  # type: ignore[arg-type]

    tell()
    try:
        for step in crew.carry_out(missing):
            if step.record is not None:
                ledger.add(step.record)
            states[step.run] = _after(states[step.run], step)
            if step.record is not None or step.error:
                done += 1
                left = round((time.monotonic() - started) / done * (len(missing) - done), 1)
                progress.finished(str(step.run), step.record)
                progress.line(f"[{done}/{len(missing)}] {said(step)}")
            elif step.epoch == 0:
                progress.started(str(step.run))
            tell()
    finally:
        for run, now in states.items():
            if now.state == "running":
                states[run] = replace(now, state="waiting", epoch=0, accuracy=None)
        tell("ended")


def said(step: Step) -> str:
    """Say in a line how a run ended."""
    record = step.record
    if record is None:
        return f"{step.run}: failed: {step.error}"
    when = "not learned" if record.steps is None else f"learned after {record.steps} steps"
    return f"{step.run}: accuracy {record.accuracy:.3f}, {when}, AP50 {record.ap50:.1f} ({record.seconds:.0f} s)"


def _status(run: ProbeRun, record: ProbeRecord | None) -> ProbeRunStatus:
    now = ProbeRunStatus(run.mechanism, run.probe, run.control, run.seed)
    if record is None:
        return now
    return replace(now, state="finished", epoch=len(record.curve), accuracy=record.accuracy)


def _after(now: ProbeRunStatus, step: Step) -> ProbeRunStatus:
    if step.error:
        return replace(now, state="failed", error=step.error)
    if step.record is not None:
        return _status(step.run, step.record)
    return replace(now, state="running", epoch=step.epoch, accuracy=step.accuracy)
