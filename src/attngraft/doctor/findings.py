"""What a check is, what it finds, and how a list of them is run over a subject of any kind."""

from __future__ import annotations

import inspect
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import torch

from attngraft._core.errors import MissingExtraError, first_line
from attngraft.measure import Environment, environment

Status: TypeAlias = Literal["pass", "warn", "fail", "skip"]
T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

SCHEMA = "attngraft.doctor/1"
LONGEST = 240
"""Characters of an error's text that are kept."""


@dataclass(frozen=True)
class Outcome:
    """What a check returns; make it with `passed`, `warned`, `failed` or `skipped`.

    Attributes:
        status: Pass, warn (works, but know this), fail (will break), skip (could not be looked at).
        detail: What was seen, with the numbers.
        remedy: The way out; empty takes the check's own.
    """

    status: Status
    detail: str
    remedy: str = ""


def passed(detail: str) -> Outcome:
    """Say that it holds, and on what that was seen."""
    return Outcome("pass", detail)


def warned(detail: str, remedy: str = "") -> Outcome:
    """Say that it works, with something to know."""
    return Outcome("warn", detail, remedy)


def failed(detail: str, remedy: str = "") -> Outcome:
    """Say that it will break."""
    return Outcome("fail", detail, remedy)


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
    seconds: float


@dataclass(frozen=True)
class Check(Generic[T_contra]):
    """One thing to look at.

    Attributes:
        name: What it is called.
        promise: What holds where it passes.
        remedy: The way out where it does not.
        run: Looks at a subject; whatever it raises is a failure.
        vital: Whether nothing else can be looked at where it fails.
    """

    name: str
    promise: str
    remedy: str
    run: Callable[[T_contra], Outcome]
    vital: bool = False


def check(*, remedy: str, vital: bool = False) -> Callable[[Callable[[T], Outcome]], Check[T]]:
    """Make a check of a function: its name is the function's, its promise the first line of the docstring.

    Args:
        remedy: The way out where it fails.
        vital: Whether nothing else can be looked at where it fails.

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
        return Check(function.__name__.replace("_", " "), promise, remedy, function, vital)

    return make


def examine(
    subject: T, checks: Iterable[Check[T]], *, started: Callable[[str], object] | None = None
) -> Iterator[Finding]:
    """Run checks over a subject, and yield each finding as it comes.

    Every check starts from the same random state, and the caller's is left alone.

    Args:
        subject: What to look at.
        checks: What to look for, in order.
        started: Called with the name of each check before it runs.
    """
    missing = ""
    for item in checks:
        if started:
            started(item.name)
        start = time.perf_counter()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            outcome = skipped(f"needs {missing!r}, which failed") if missing else _run(item, subject)
        bad = outcome.status in ("warn", "fail")
        remedy = outcome.remedy or (item.remedy if bad else "")
        seconds = round(time.perf_counter() - start, 3)
        yield Finding(item.name, item.promise, outcome.status, outcome.detail, remedy, seconds)
        if item.vital and outcome.status == "fail":
            missing = item.name


def _run(item: Check[T], subject: T) -> Outcome:
    try:
        return item.run(subject)
    except MissingExtraError as error:
        return skipped(str(error))
    except Exception as error:  # noqa: BLE001 (the subject is a stranger's code: all it raises is a finding)
        return failed(said(error))


def said(error: BaseException) -> str:
    """Return an exception as one line, cut where it gets long."""
    return textwrap.shorten(first_line(error), LONGEST, placeholder=" ...")


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


def diagnose(name: str, subject: T, checks: Iterable[Check[T]]) -> Diagnosis:
    """Run checks over a subject and keep all findings.

    Args:
        name: What to call the subject.
        subject: What to look at.
        checks: What to look for, in order.
    """
    return Diagnosis(name, tuple(examine(subject, checks)), environment())
