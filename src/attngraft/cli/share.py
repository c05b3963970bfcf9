"""``attngraft card``, ``diff`` and ``apply``: what it takes to give a grafted model away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from attngraft._core.files import free_file, write_text
from attngraft.cli import pairs

CARD_KEYS = {
    "study": "Folder of a study, or its results.json, for the verdict.",
    "arm": "Which arm of the study the model is of; the one with its grafts by default.",
    "base": "What the grafts were joined to, as the card names it.",
    "output": "File to write.",
}
DIFF_KEYS = {"base": "The checkpoint that training began from.", "output": "File to write, .safetensors."}
APPLY_KEYS = {"base": "The base that the file was taken from, here.", "output": "Checkpoint to write, .pt."}


def run_card(words: Sequence[str], output: Path | None) -> None:
    """Write the card of what the words name."""
    from attngraft.card import card as read

    model, options = _one_file(words, "card", CARD_KEYS, output)
    target = options.pop("output")
    written = read(model, **options).markdown()
    file = free_file(Path(target) if target else Path(model).with_name("README.md"))
    write_text(file, written)
    click.echo(f"attngraft: {file} written")


def run_diff(words: Sequence[str], output: Path | None) -> None:
    """Write what differs from the base that the words name."""
    from attngraft.yolo.sharing import diff as write

    model, options = _one_file(words, "diff", DIFF_KEYS, output, needs="base")
    target = Path(options["output"] or Path(model).with_suffix(".safetensors"))
    told = write(model, options["base"], target)
    click.echo(
        f"attngraft: {target} written, {target.stat().st_size:,} bytes: {told.added} tensors of {told.grafts} and "
        f"{told.changed} of the base's {told.total - told.added} that training changed"
    )


def run_apply(words: Sequence[str], output: Path | None) -> None:
    """Put a file onto the base that the words name."""
    from attngraft.yolo.sharing import apply_diff

    file, options = _one_file(words, "apply", APPLY_KEYS, output, needs="base")
    target = Path(options["output"] or Path(file).with_suffix(".pt"))
    click.echo(f"attngraft: {apply_diff(file, options['base'], target)} written")


def _one_file(
    words: Sequence[str], command: str, keys: dict[str, str], output: Path | None, *, needs: str = ""
) -> tuple[str, dict[str, Any]]:
    """Return the one file that the words name, and the options.

    Raises:
        UsageError: If there is not one file, or an option that is needed is not there.
    """
    named, options = pairs.read(words)
    options["output"] = pairs.take(options, command, "output", "out", given=output)
    pairs.require_known(command, options, list(keys))
    if len(named) != 1:
        raise click.UsageError(f"{command} takes one file, got {', '.join(named) or 'none'}")
    if needs and options.get(needs) is None:
        raise click.UsageError(f"{command} needs {needs}=, as in: attngraft {command} {named[0]} {needs}=yolo11n.pt")
    return named[0], options
