"""A table of results, ``arm,seed,metric``, as whatever program wrote it."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from attngraft._core.errors import DataError, suggest
from attngraft._core.json_text import parse_json
from attngraft.study.plan import STOCK

Scale = Literal["fractions", "points"]
MOST_BYTES = 64 << 20
MOST = 1e6
"""Beyond any metric; squares of what is far beyond cannot be written down."""

LOGGED = {"env_info", "iter", "iteration", "step"}
"""Keys of the first line of what MMDetection and Detectron2 write of each run."""

CURVES = {"epoch", "train/box_loss"}
"""Columns of what Ultralytics writes of each run."""

LESS_IS_BETTER = re.compile(r"(?<![a-z])(loss|err|error|latency|m[as]e|rmse|fid|perplexity|seconds)(?![a-z])", re.I)
"""Names of numbers that should fall; a verdict takes more for better."""

PERCENT = 1.5
"""Above it a number is no fraction, nor one that rounding took a little over 1."""

APART = 1.5
"""How far a fraction times 100 may lie beyond an arm's percent, as a factor, and still be one of them by mistake."""

Numbers = dict[str, dict[int, float]]
"""A number of each arm at each seed."""


def read_table(file: Path, metric: str | None = None, scale: Scale | None = None) -> tuple[Numbers, str]:
    """Read a CSV with a row for each run.

    Args:
        file: The file; its columns are ``arm``, ``seed`` and at least one with numbers.
        metric: The column to read; None takes the only one left.
        scale: Whether numbers are fractions, which are taken times 100, or points; None sees by their size.

    Returns:
        The numbers in points, and the name of their column.

    Raises:
        DataError: If a column or a value is missing, a run stands there twice, fractions and percent are mixed, or by
            the metric's name less of it is better.
    """
    require_no_log(file)
    rows = list(_rows(file))
    column = _column(file, [row for _, row in rows], metric)
    found: Numbers = {}
    for line, row in rows:
        arm, seed, number = (row.get(name) for name in ("arm", "seed", column))
        where = f"{file}, line {line}"
        if not arm:
            raise DataError(f"{where} names no arm; write one, or leave the line out")
        one = found.setdefault(arm, {})
        key = _seed(where, arm, seed)
        if key in one:
            raise DataError(f"{where} has arm {arm} at seed {key} a second time; leave one out")
        one[key] = _number(where, column, number)
    if LESS_IS_BETTER.search(column) and any(number > 0 for runs in found.values() for number in runs.values()):
        raise DataError(
            f"{file}: of {column!r}, less is better, and a verdict takes more for better; give the numbers a minus"
        )
    return _in_points(file, found, scale), column


def require_no_log(file: Path) -> None:
    """Require that a file is no log with an object on each line, such as ``scalars.json`` and ``metrics.json``.

    Raises:
        DataError: If it is one.
    """
    try:
        with file.open("rb") as lines:
            line = lines.readline()
        first = parse_json(line) if line.startswith(b"{") else None  # a list of detections is long, and read later
    except (OSError, ValueError):  # whoever reads the file says what is wrong with it
        return
    if isinstance(first, dict) and first.keys() & LOGGED:
        raise DataError(
            f"{file} is a log of a training run, as MMDetection and Detectron2 write it, and has no detections; "
            "name the files with the detections and truth=FILE, or put the last number of each log into a table with "
            "the columns arm, seed and AP"
        )


def _rows(file: Path) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise DataError(f"{file} is larger than {MOST_BYTES >> 20} MiB, which no table of runs is; check the file")
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not written in UTF-8; save it so, in Excel as 'CSV UTF-8'") from error
    try:
        lines = text.splitlines()
        for mark, name in ((";", "semicolons"), ("\t", "tabs")):
            if lines and mark in lines[0] and "," not in lines[0]:
                raise DataError(f"{file} has {name} between its columns; save it with commas, and points in numbers")
        reader = csv.DictReader(lines, skipinitialspace=True)
        heads = [str(name).strip() for name in reader.fieldnames or ()]
        if doubled := [name for name in dict.fromkeys(heads) if name and heads.count(name) > 1]:
            raise DataError(f"{file} has more than one column {doubled[0]!r}; rename or leave out all but one")
        for row in reader:
            if None in row or None in row.values():
                raise DataError(f"{file}, line {reader.line_num} has another number of columns than the first line")
            yield reader.line_num, {str(name).strip(): value.strip() for name, value in row.items()}
    except csv.Error as error:
        raise DataError(f"{file} is not a CSV file ({error}); expected columns arm, seed and a metric") from error


def _column(file: Path, rows: list[dict[str, str]], metric: str | None) -> str:
    columns = list(rows[0]) if rows else []
    for name in ("arm", "seed"):
        if name not in columns and set(columns) >= CURVES:
            raise DataError(
                f"{file} is the course of one training run of Ultralytics; name the folders of the runs, as in "
                "stock='runs/detect/stock*' mhsa='runs/detect/mhsa*'"
            )
        if name not in columns:
            has = f"has {', '.join(columns)}" if columns else "is empty"
            raise DataError(f"{file} needs the columns arm, seed and a metric, and {has}; name them in its first line")
    others = [name for name in columns if name not in ("arm", "seed", "")]  # pandas' row numbers have no name
    if not others:
        raise DataError(f"{file} has no column besides arm and seed; add one with a number for each run")
    if metric is None and len(others) == 1:
        return others[0]
    if metric is None:
        raise DataError(f"{file} has {len(others)} columns besides arm and seed; say which, as in: metric={others[0]}")
    if metric not in others:
        raise DataError(f"{file} has no column {metric!r}; {suggest(metric, others)}")
    return metric


def _seed(where: str, arm: str, text: str | None) -> int:
    try:
        return int(_plain(text))
    except ValueError:
        raise DataError(f"{where} needs an integer as the seed of {arm}, got {text!r}") from None


def _plain(text: str | None) -> str:
    """Return a text without the underscores that Python reads over in numbers: in a table ``39_1`` is a slip.

    Raises:
        ValueError: If it has any.
    """
    if "_" in str(text):
        raise ValueError(text)
    return str(text)


def _number(where: str, column: str, text: str | None) -> float:
    try:
        number = float(_plain(text))
    except ValueError as error:
        if text:
            raise DataError(
                f"{where} needs a plain number for {column}, such as 39.1, got {text!r}; write it with a point, and "
                "without a percent sign or a spread"
            ) from error
        number = math.nan
    if not abs(number) <= MOST:
        raise DataError(
            f"{where} needs a number up to {MOST:g} for {column}, got {text!r}; give a run that diverged 0, and leave "
            "out one that was lost with its machine"
        )
    return number


def _in_points(file: Path, found: Mapping[str, Mapping[int, float]], scale: Scale | None) -> Numbers:
    if scale not in ("fractions", "points", None):
        raise DataError(f"scale is fractions or points, got {scale!r}")
    small = {arm: all(0 <= number <= 1 for number in numbers.values()) for arm, numbers in found.items()}
    if scale is None and any(small.values()) and not all(small.values()):
        one, other = (next(arm for arm, fits in small.items() if fits is wanted) for wanted in (True, False))
        raise DataError(
            f"{file} gives {one} as fractions and {other} as percent, it seems; say scale=points or scale=fractions "
            "if all are of one kind, or correct the file"
        )
    if scale is None:
        _require_one_scale(file, found)
    factor = 100.0 if scale == "fractions" or (scale is None and all(small.values())) else 1.0
    return {arm: {seed: factor * number for seed, number in numbers.items()} for arm, numbers in found.items()}


def _require_one_scale(file: Path, found: Mapping[str, Mapping[int, float]]) -> None:
    """Require that no arm has a fraction beside percent: a hundredth of what its other numbers are.

    A run that did not learn, at 0 or far below the others in percent, is none; nor is any number beside negative ones
    or some above 100, which are no percent.
    """
    everything = {(arm, seed): number for arm, numbers in found.items() for seed, number in numbers.items()}
    if not all(0 <= number <= 100 for number in everything.values()):
        return
    percent = {run: number for run, number in everything.items() if number > PERCENT}
    for (arm, seed), number in everything.items():
        beside = {run: other for run, other in percent.items() if run[0] == arm} or percent
        if not beside or not 0 < number <= 1:
            continue
        if min(beside.values()) / APART <= 100 * number <= max(beside.values()) * APART:
            (other_arm, other_seed), other = next(iter(beside.items()))
            raise DataError(
                f"{file} gives {arm} at seed {seed} as a fraction, {number:g}, and {other_arm} at seed {other_seed} as "
                f"percent, {other:g}, it seems; correct the file, or say scale=points if {number:g} is percent too"
            )


def require_pairs(arms: Mapping[str, Mapping[int, Any]], baseline: str, *, drop: bool) -> None:
    """Require that every arm has the seeds of the baseline.

    Args:
        arms: The runs of each arm by seed.
        baseline: The arm that the others are compared with.
        drop: Whether runs without a partner may be left out.

    Raises:
        DataError: If there is one arm only, the baseline is missing or has the name of another, or runs have no
            partner.
    """
    if baseline not in arms:
        raise DataError(f"no runs of the baseline {baseline!r}; {suggest(baseline, arms)} Or say baseline=NAME")
    if baseline != STOCK and STOCK in arms:
        raise DataError(f"{STOCK} is what studies call their baseline, which is {baseline} here; rename that arm")
    if len(arms) < 2:
        raise DataError(f"there is one arm only, {baseline}; a comparison needs another beside its baseline")
    base = arms[baseline].keys()
    for name, runs in arms.items():
        if not runs.keys() & base:
            raise DataError(f"arm {name} has no seed in common with {baseline}, so there is nothing to pair")
        missing, extra = sorted(base - runs.keys()), sorted(runs.keys() - base)
        if drop or not (missing or extra):
            continue
        who, lacking, other = (name, missing, baseline) if missing else (baseline, extra, name)
        raise DataError(
            f"{who} lacks the seeds {', '.join(map(str, lacking[:5]))} that {other} has; add those runs, or leave out "
            "what has no partner with unpaired=drop"
        )


def left_out(arms: Mapping[str, Mapping[int, Any]], baseline: str) -> tuple[str, ...]:
    """Say which runs have no partner, so that they are in no difference.

    Args:
        arms: The runs of each arm by seed.
        baseline: The arm that the others are compared with.

    Example:
        >>> left_out({"stock": {0: 1.0, 1: 2.0}, "ema": {1: 2.0, 2: 3.0}}, "stock")
        ('ema is compared without stock at seed 0 and ema at seed 2, which have no partner',)
    """
    base = arms[baseline].keys()
    said = []
    for name, runs in arms.items():
        alone = [
            (who, sorted(seeds)) for who, seeds in ((baseline, base - runs.keys()), (name, runs.keys() - base)) if seeds
        ]
        if alone:
            each = [
                f"{who} at seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}" for who, seeds in alone
            ]
            which = "has" if sum(len(seeds) for _, seeds in alone) == 1 else "have"
            said.append(f"{name} is compared without {' and '.join(each)}, which {which} no partner")
    return tuple(said)
