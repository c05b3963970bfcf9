"""The page for users of studies names every key, every file and every verb there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from attngraft.cli.study import study as group
from attngraft.coco.average_precision import METRICS
from attngraft.coco.metrics import RECALLS, parse_metric
from attngraft.study import Study
from attngraft.study.plan import Plan

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")


def test_every_key_has_its_line_and_its_default() -> None:
    rows = {name: value.strip() for name, value in re.findall(r"^\| `(\w+)` \|([^|]*)\|", PAGE, re.MULTILINE)}
    assert {field.name for field in fields(Plan)} <= rows.keys()
    for name in ("base", "seeds", "first_seed", "metric", "sesoi", "alpha", "match", "split", "interrupted"):
        default = next(field.default for field in fields(Plan) if field.name == name)
        assert rows[name] == f"`{default}`"


def test_every_metric_that_is_named_is_one() -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("| `metric`"))
    named = re.findall(r"`([^`]+)`", line)[2:]
    assert {*METRICS, *RECALLS} <= {"AP", *named}
    for metric in named:
        assert parse_metric(metric)


def test_every_file_of_a_study_is_named(made_study: Callable[..., Study]) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=1, controls="stock")
    study.report()
    for file in study.store.folder.rglob("*"):
        name = re.sub(r"^(stock|eca@P3)-s0", "ARM-sSEED", file.name)
        assert file.is_dir() or name in PAGE, file


def test_every_verb_is_shown() -> None:
    for verb in group.commands:
        assert verb == "run" or f"attngraft study {verb}" in PAGE, verb
