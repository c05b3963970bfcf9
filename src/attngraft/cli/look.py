"""``attngraft look``: a page, a contact sheet or arrays of what a model did on images."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from attngraft._core.escape import whole
from attngraft._core.files import free_file, require_writable
from attngraft.cli import pairs
from attngraft.cli.output import console as new_console
from attngraft.cli.progress import StatusLine
from attngraft.look.asking import Question
from attngraft.look.language import checked_language, font, said, spoken
from attngraft.look.result import Look, require_suffix
from attngraft.look.video import is_video

KEYS = (
    "model",
    "source",
    "base",
    "imgsz",
    "confidence",
    "limit",
    "layers",
    "scores",
    "image",
    "detection",
    "output",
    "frame",
    "language",
    "port",
)
DEFAULT = "look.html"


def run_look(words: Sequence[str], output: Path | None = None, *, live: bool = False) -> None:
    """Look at what the words name, and write or serve it.

    Args:
        words: The model, images or a video, and ``key=value``.
        output: The file to write; its suffix says what.
        live: Whether to serve the page until Ctrl-C; a file is written only if one is named.

    Raises:
        UsageError: If the words make no sense.
        OutputError: If the file could not be written.
    """
    named, options = pairs.read(words)
    chosen = pairs.take(options, "look", "output", given=output)
    options["confidence"] = pairs.take(options, "look", "confidence", "conf")
    pairs.require_known("look", options, KEYS)
    model, images = _subject(named, options)
    port = options.pop("port", 0)
    if not isinstance(port, int) or (port and not live):
        raise click.UsageError(f"port is a number and goes with --serve, got port={port}")
    if any(is_video(image) for image in images):
        _follow(model, images, options, chosen, live)
        return
    if "frame" in options:
        raise click.UsageError("frame is for a video; an image is chosen with image=")
    file = require_suffix(chosen or DEFAULT) if chosen or not live else None
    line = ["attngraft", "look", *words, *([] if output is None else ["-o", str(output)])]
    question, found = _look(model, images, options, file, whole(shlex.join(line)))
    if live:
        from attngraft.look.serving import serve, server

        serving, address = server(question, found, port)
        click.echo(f"attngraft: {address} (end with Ctrl-C)")
        serve(serving, click.echo)


def _look(
    model: str, images: list[str], options: dict[str, Any], file: Path | None, command: str
) -> tuple[Question, Look]:
    """Look at images, write the file where one is wanted, and print the verdicts."""
    language = checked_language(options.pop("language", None))
    if file is not None:  # before the work
        if language and file.suffix == ".png":
            font(13, language)
        _require_writable(file)
    shown = {key: options.pop(key) - 1 for key in ("image", "detection") if _is_number(options, key)}
    written = None
    with StatusLine(new_console(stderr=True)) as progress:
        question = Question.of(model, images, progress=progress, **_question_options(options))
        _require_image(question, shown)
        found = question.look(progress)
        _require_detection(found, shown)
        found.language, found.command = language, command
        if file is not None:
            progress.started(f"writing {file.name}")
            written = found.save(file, **shown)
    for verdict in found.verdicts():
        click.echo(f"attngraft: {said(verdict, language or spoken())}")
    if written:
        click.echo(f"attngraft: {written} written")
    return question, found


def _follow(model: str, images: list[str], options: dict[str, Any], output: Any, live: bool) -> None:
    """Write a video of one detection."""
    from attngraft.look.video import film

    extra = sorted(options.keys() & {"base", "scores", "limit", "image", "language"})
    if len(images) > 1 or live or extra:
        what = "--serve" if live else f"{extra[0]}=" if extra else f"{len(images)} files"
        raise click.UsageError(f"a video is looked at alone, by frame= and detection=, got {what}")
    chosen = {key: options.pop(key) - 1 for key in ("frame", "detection") if _is_number(options, key)}
    file = Path(output or "look.mp4")
    _require_writable(file)
    with StatusLine(new_console(stderr=True)) as progress:
        made = film(model, images[0], file, progress=progress, **chosen, **_question_options(options))
    click.echo(f"attngraft: {made}")


def _subject(named: list[str], options: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the model and the images."""
    words = list(named)
    model = options.pop("model", None) or (words.pop(0) if words else None)
    source = options.pop("source", None)
    images = words + ([str(source)] if source is not None else [])
    if model is None or not images:
        raise click.UsageError("say which model and which images, as in: attngraft look best.pt image.jpg")
    return model, images


def _require_image(question: Question, shown: dict[str, int]) -> None:
    """Find out before the work whether there is the image of a contact sheet; it counts from 1, as the page does."""
    count = len(question.pixels)
    if shown.get("image", 0) >= count:
        raise click.UsageError(f"there are {count} images, the first is image=1; got image={shown['image'] + 1}")


def _require_detection(found: Look, shown: dict[str, int]) -> None:
    """Require the detection of a contact sheet; of an image without any, the first is its middle cell."""
    image = found.images[shown.get("image", 0)]
    count = len(image.detections)
    if shown.get("detection", 0) >= max(1, count):
        raise click.UsageError(
            f"{image.name} has {count} detections, the first is detection=1; got detection={shown['detection'] + 1}; "
            "lower confidence= or raise limit="
        )


def _is_number(options: dict[str, Any], key: str) -> bool:
    """Tell whether a key is given; it counts from 1, as the page does."""
    given = options.get(key)
    if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
        raise click.UsageError(f"look takes {key}=1 for the first, got {key}={given}")
    return given is not None


def _question_options(options: dict[str, Any]) -> dict[str, Any]:
    asked = {key: value for key, value in options.items() if value is not None}
    if isinstance(asked.get("layers"), str):
        asked["layers"] = pairs.several(asked["layers"])
    if not isinstance(asked.get("scores", False), bool):
        raise click.UsageError(f"look takes scores=True or scores=False, got scores={asked['scores']}")
    return asked


def _require_writable(file: Path) -> None:
    """Find out before the work whether the file can be written.

    Raises:
        OutputError: If it cannot.
    """
    require_writable(free_file(file), as_file=True, advice="choose another file with -o")
