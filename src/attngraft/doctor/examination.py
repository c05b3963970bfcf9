"""`doctor`: the one door, whatever is to be examined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

import attngraft.attention as zoo
from attngraft._core.checks import positive
from attngraft._core.errors import CheckpointError, OptionError, UnknownNameError
from attngraft._core.progress import SILENT, Progress
from attngraft._core.registry import REFUSED
from attngraft.doctor.findings import Check, Diagnosis, examine
from attngraft.doctor.mechanism.checklist import MODULE_CHECKS
from attngraft.doctor.mechanism.subject import names_class, subject
from attngraft.measure import environment

T = TypeVar("T")
CELL = 8
"""Pixels to a cell of the largest map that carries a mechanism, P3."""


def doctor(
    target: str | Path | type[nn.Module],
    *,
    imgsz: int = 640,
    batch: int = 16,
    data: str | None = None,
    channels: int = 64,
    options: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> Diagnosis:
    """Look for what would break later: in training, on several GPUs, after a reload, in export.

    Args:
        target: A recipe, a model YAML or a checkpoint; or a mechanism alone: its name, its class, ``FILE.py:CLASS`` or
            ``PACKAGE.MODULE:CLASS``.
        imgsz: Side of the largest image.
        batch: Images in a training step.
        data: The data file of Ultralytics, whose images exports are then compared on.
        channels: Width of the maps that a mechanism alone is examined on.
        options: Keyword arguments that a mechanism alone is built with; a recipe has them inside.
        progress: Gets the name of each check before it runs, and its `Finding`.

    Returns:
        Every finding; ``healthy`` if none is a failure.

    Raises:
        UnknownNameError: If there is no such mechanism, class, option or model.
        OptionError: If a number is no positive integer, a file cannot be imported, or no class of it is named.
        RecipeError: If the recipe cannot be read.
        CheckpointError: If the recipe's base is not there.
    """
    positive("the doctor", imgsz=imgsz, batch=batch, channels=channels)
    given = dict(options or {})
    if is_mechanism(target):
        side = max(1, imgsz // CELL)
        name = target if isinstance(target, type) else str(target)
        one = subject(name, channels=channels, options=given, largest=(side, side), batch=batch)
        return _examined(one.name, one, MODULE_CHECKS, progress)

    from attngraft.doctor.detector.checklist import DETECTOR_CHECKS
    from attngraft.doctor.detector.deployment import data as data_check
    from attngraft.doctor.detector.subject import DetectorSubject
    from attngraft.yolo.model import quiet

    if given:
        raise OptionError(f"options= is for a mechanism alone; in a recipe they stand in it, got {given} for {target}")
    _require_base(str(target))
    checks = [check for check in DETECTOR_CHECKS if data is not None or check is not data_check]
    with quiet():
        return _examined(str(target), DetectorSubject(str(target), imgsz, batch, data), checks, progress)


def is_mechanism(target: object) -> bool:
    """Tell whether a target is a mechanism alone, and not a detector."""
    if isinstance(target, type):
        return True
    text = str(target)
    return names_class(text) or text.lower() in zoo.names() or text in _classes()


def _require_base(text: str) -> None:
    """Raise where a recipe's base is nowhere: nothing could be looked at."""
    from attngraft.yolo import Recipe
    from attngraft.yolo.model import CONFIGS, load_yaml, quiet, resolve_base

    recipe = Recipe.parse(text)
    with quiet():
        base = resolve_base(recipe.base)
    if not base.lower().endswith(CONFIGS):
        return
    try:
        load_yaml(base)
    except CheckpointError:
        if recipe.grafts or Path(text).suffix:
            raise
        why = REFUSED.get(text.lower(), "")
        raise UnknownNameError("mechanism or model", text, zoo.names(), why) from None


def _classes() -> set[str]:
    return {record.cls.__name__ for record in zoo.mechanisms().values()}


def _examined(name: str, what: T, checks: Iterable[Check[T]], progress: Progress) -> Diagnosis:
    findings = []
    threads = torch.get_num_threads()
    for finding in examine(what, checks, progress=progress):
        torch.set_num_threads(threads)  # Ultralytics sets its own
        findings.append(finding)
    return Diagnosis(name, tuple(findings), environment())
