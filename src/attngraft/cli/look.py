"""``attngraft look``: a page, a contact sheet or arrays of what a model did on images."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from attngraft._core.errors import OutputError
from attngraft._core.files import free_file
from attngraft.cli import pairs
from attngraft.cli.output import console as new_console
from attngraft.cli.progress import StatusLine
from attngraft.look.result import look, require_suffix

KEYS = ("model", "source", "base", "imgsz", "confidence", "limit", "layers", "scores", "image", "detection", "output")
DEFAULT = "look.html"


def run_look(words: Sequence[str], output: Path | None = None) -> Path:
    """Look at what the words name, and write it.

    Args:
        words: The model, images, and ``key=value``.
        output: The file to write; its suffix says what.

    Returns:
        The file.

    Raises:
        UsageError: If the words make no sense.
        OutputError: If the file could not be written.
    """
    named = [word for word in words if not pairs.is_pair(word)]
    options = pairs.parse([word for word in words if pairs.is_pair(word)])
    chosen = pairs.take(options, "look", "output", given=output)
    confidence = pairs.take(options, "look", "confidence", "conf")
    pairs.require_known("look", options, KEYS)
    file = require_suffix(chosen or DEFAULT)
    model, images = _subject(named, options)
    _require_writable(file)
    shown = {key: options.pop(key) - 1 for key in ("image", "detection") if _is_number(options, key)}
    asked = _asked(options) | ({} if confidence is None else {"confidence": confidence})
    progress = StatusLine(new_console(stderr=True))
    with progress:
        found = look(model, images, progress=progress, **asked)
        progress.started(f"writing {file.name}")
        found.command = shlex.join(["attngraft", "look", *words, *([] if output is None else ["-o", str(output)])])
        written = found.save(file, **shown)
    for verdict in found.verdicts():
        click.echo(f"attngraft: {verdict}")
    click.echo(f"attngraft: {written} written")
    return written


def _subject(named: list[str], options: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the model and the images."""
    words = list(named)
    model = options.pop("model", None) or (words.pop(0) if words else None)
    source = options.pop("source", None)
    images = words + ([str(source)] if source is not None else [])
    if model is None or not images:
        raise click.UsageError("say which model and which images, as in: attngraft look best.pt image.jpg")
    return model, images


def _is_number(options: dict[str, Any], key: str) -> bool:
    """Tell whether a key is given; it counts from 1, as the page does."""
    given = options.get(key)
    if given is not None and (not isinstance(given, int) or given < 1):
        raise click.UsageError(f"look takes {key}=1 for the first, got {key}={given}")
    return given is not None


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    asked = {key: value for key, value in options.items() if value is not None}
    if isinstance(asked.get("layers"), str):
        asked["layers"] = [name.strip() for name in asked["layers"].split(",")]
    if not isinstance(asked.get("scores", False), bool):
        raise click.UsageError(f"look takes scores=True or scores=False, got scores={asked['scores']}")
    return asked


def _require_writable(file: Path) -> None:
    """Find out before the work whether the file can be written.

    Raises:
        OutputError: If it cannot.
    """
    target = free_file(file)
    folder = next(parent for parent in target.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK) or target.is_dir():
        raise OutputError(f"cannot write {target} in {folder}; choose another file with -o")
