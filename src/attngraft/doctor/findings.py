"""What a check is, what it finds, and how a list of them is run over a subject of any kind."""

from __future__ import annotations

import inspect
import re
import sysconfig
import textwrap
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import torch
from pydantic import NonNegativeFloat

from attngraft._core.errors import AttngraftError, MissingExtraError, first_line
from attngraft._core.progress import SILENT, Progress
from attngraft._core.schemas import json_schema
from attngraft.measure import Environment, environment

Status: TypeAlias = Literal["pass", "warn", "fail", "skip"]
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

SCHEMA = "attngraft.doctor/1"
LONGEST = 240
"""Characters of an error's text that are kept."""
INSTALLED = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")}
BACKWARD = str(Path("torch", "autograd", "graph.py"))
"""Where PyTorch starts a backward pass, whichever line of forward it then fails for."""
OURS = Path(__file__).resolve().parents[1]


class _Expected(Exception):  # noqa: N818
    """Carries what was raised where a check expects it."""

    def __init__(self, error: Exception, remedy: str) -> None:
        self.error, self.remedy = error, remedy
        super().__init__(error, remedy)


@contextmanager
def expected(remedy: str = "") -> Iterator[None]:
    """Take what is raised inside for what the check looks for, so that its remedy is for it.

    Args:
        remedy: The way out; empty takes the check's own.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except Exception as error:
        raise _Expected(error, remedy) from error


class Wrong(Exception):  # noqa: N818 (a verdict of ours, no error of the subject's)
    """What one trial of a check finds wrong: raised in it where the subject's code itself raises nothing."""


@dataclass(frozen=True)
class Outcome:
    """What a check returns; make it with `passed`, `warned`, `failed` or `skipped`.

    Attributes:
        status: Pass, warn (works, but know this), fail (will break), skip (could not be looked at).
        detail: What was seen, with the numbers.
        remedy: The way out; empty takes the check's own.
        errors: What the subject's code raised, each as `kind` names it; empty text for a verdict of ours.
    """

    status: Status
    detail: str
    remedy: str = ""
    errors: tuple[str, ...] = ()


def passed(detail: str) -> Outcome:
    """Say that it holds, and on what that was seen."""
    return Outcome("pass", detail)


def warned(detail: str, remedy: str = "") -> Outcome:
    """Say that it works, with something to know."""
    return Outcome("warn", detail, remedy)


def failed(detail: str, remedy: str = "") -> Outcome:
    """Say that it will break."""
    return Outcome("fail", detail, remedy)


def broken(errors: Mapping[str, Exception], unit: str = "") -> Outcome:
    """Say that it will break where trials of a check raised; those that raise alike are named together.

    Args:
        errors: What each trial raised, by its name.
        unit: Of the names, such as " channels".
    """
    alike: dict[str, list[str]] = {}
    for name, error in errors.items():
        alike.setdefault(kind(error), []).append(name)
    detail = [f"{', '.join(names)}{unit}: {said(errors[names[0]])}".removeprefix(": ") for names in alike.values()]
    ours = {kind(error) for error in errors.values() if isinstance(error, Wrong)}
    return Outcome("fail", "; ".join(detail), errors=tuple("" if name in ours else name for name in alike))


def skipped(detail: str, remedy: str = "") -> Outcome:
    """Say that it could not be looked at."""
    return Outcome("skip", detail, remedy)


@dataclass(frozen=True)
class Finding:
    """One row of a diagnosis.

    Attributes:
        name: Of the check.
        promise: What holds where it passes.
        status: Pass, warn, fail or skip.
        detail: What was seen, with the numbers.
        remedy: The way out; empty where none is needed.
        seconds: How long the check took.
    """

    name: str
    promise: str
    status: Status
    detail: str
    remedy: str
    seconds: NonNegativeFloat


@dataclass(frozen=True)
class Check(Generic[T_contra]):
    """One thing to look at.

    Attributes:
        name: What it is called.
        promise: What holds where it passes.
        remedy: The way out where it does not.
        run: Looks at a subject; whatever it raises is a failure.
        vital: Whether nothing else can be looked at where it fails.
        needs: Names of the checks that must not fail for this one to be trusted.
    """

    name: str
    promise: str
    remedy: str
    run: Callable[[T_contra], Outcome]
    vital: bool = False
    needs: tuple[str, ...] = ()


def check(
    *, remedy: str, vital: bool = False, needs: tuple[str, ...] = ()
) -> Callable[[Callable[[T], Outcome]], Check[T]]:
    """Make a check of a function: its name is the function's, its promise the first line of the docstring.

    Args:
        remedy: The way out where it fails.
        vital: Whether nothing else can be looked at where it fails.
        needs: Names of the checks that must not fail for this one to be trusted.

    Example:
        >>> @check(remedy="eat less")
        ... def light(kilograms: float) -> Outcome:
        ...     '''It weighs at most 20 kg.'''
        ...     return passed(f"{kilograms} kg") if kilograms <= 20 else failed(f"{kilograms} kg")
        >>> [(f.status, f.detail, f.remedy) for f in examine(25, [light])]
        [('fail', '25 kg', 'eat less')]
    """

    def make(function: Callable[[T], Outcome]) -> Check[T]:
        promise = (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")
        return Check(function.__name__.replace("_", " "), promise, remedy, function, vital, needs)

    return make


def examine(subject: T, checks: Iterable[Check[T]], *, progress: Progress = SILENT) -> Iterator[Finding]:
    """Run checks over a subject, and yield each finding as it comes.

    Every check starts from the same random state, and the caller's is left alone.

    Args:
        subject: What to look at.
        checks: What to look for, in order.
        progress: Gets the name of each check before it runs, and its finding.
    """
    failures: list[str] = []
    vital: list[str] = []
    raised: dict[str, str] = {}
    for item in checks:
        progress.started(item.name)
        start = time.perf_counter()
        missing = next((name for name in (*vital, *item.needs) if name in failures), "")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            outcome = skipped(f"needs {missing!r}, which failed") if missing else _run(item, subject)
        if outcome.errors and all(error in raised for error in outcome.errors):
            outcome = skipped(f"same as {raised[outcome.errors[0]]!r}: fix that first")
        for error in filter(None, outcome.errors):
            raised.setdefault(error, item.name)
        seconds = round(time.perf_counter() - start, 3)
        finding = Finding(item.name, item.promise, outcome.status, outcome.detail, outcome.remedy, seconds)
        progress.finished(item.name, finding)
        yield finding
        if outcome.status == "fail":
            failures.append(item.name)
            vital += [item.name] if item.vital else []


def _run(item: Check[T], subject: T) -> Outcome:
    """Run one check; its remedy is for what it finds, and not for what it never expected to be raised."""
    try:
        outcome = item.run(subject)
    except MissingExtraError as error:
        return skipped(str(error))
    except _Expected as found:
        outcome = replace(broken({"": found.error}), remedy=found.remedy)
    except AttngraftError as error:
        return Outcome("fail", said(error), errors=(kind(error),))  # it says what to do
    except Exception as error:  # noqa: BLE001 (the subject is a stranger's code: all it raises is a finding)
        return Outcome("fail", said(error), f"look at {where(error)}", (kind(error),))
    bad = outcome.status in ("warn", "fail")
    return replace(outcome, remedy=item.remedy) if bad and not outcome.remedy else outcome


def kind(error: BaseException) -> str:
    """Name what errors of one cause have in common: the type, and the text without its numbers."""
    return re.sub(r"\d+", "#", first_line(error))


def where(error: BaseException) -> str:
    """Name the line of the subject's code that an error came from, or the line that raised it where there is none.

    An error of a backward pass has no line of the subject's: PyTorch says which it is where it is asked to.

    Args:
        error: As it was caught.
    """
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if f.filename[0] != "<" and not _is_library(Path(f.filename))]
    if not theirs and frames[-1].filename.endswith(BACKWARD):
        return "the backward pass: torch.autograd.set_detect_anomaly(True) names the line of forward that it fails for"
    frame = (theirs or frames)[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}: {frame.line}"


def _is_library(file: Path) -> bool:
    return any(file.resolve().is_relative_to(folder) for folder in (*INSTALLED, OURS))


def said(error: BaseException) -> str:
    """Return an exception as one line, cut where it gets long; what we found wrong needs no type."""
    text = str(error) if isinstance(error, Wrong) else first_line(error)
    return textwrap.shorten(text, LONGEST, placeholder=" ...")


@dataclass(frozen=True)
class Diagnosis:
    """All findings on one subject.

    Attributes:
        subject: What was looked at.
        findings: A row for each check.
        environment: What it was run on.
    """

    subject: str
    findings: tuple[Finding, ...]
    environment: Environment

    @property
    def healthy(self) -> bool:
        """Whether nothing failed; warnings and skipped checks do not count."""
        return all(finding.status != "fail" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"schema": SCHEMA, "healthy": self.healthy, **asdict(self)}

    def __str__(self) -> str:
        rows = [
            f"{f.status:4}  {f.name:22} {f.detail}" + (f" -> {f.remedy}" if f.remedy else "") for f in self.findings
        ]
        return "\n".join([self.subject, *rows])


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of `Diagnosis.to_dict`."""
    healthy = {"type": "boolean", "description": "Whether no status is fail."}
    return json_schema(Diagnosis, SCHEMA, healthy=healthy)


def diagnose(name: str, subject: T, checks: Iterable[Check[T]]) -> Diagnosis:
    """Run checks over a subject and keep all findings.

    Args:
        name: What to call the subject.
        subject: What to look at.
        checks: What to look for, in order.
    """
    return Diagnosis(name, tuple(examine(subject, checks)), environment())
