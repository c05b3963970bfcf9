"""The verbs of the host, given a recipe for a model."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from attngraft._core.errors import suggest

EXPORT_KEYS = ("pictures", "half", "int8")
"""Keys of our own export besides the host's."""


def run_verb(verb: str, pairs: Sequence[str]) -> Any:
    """Open the model that ``pairs`` name and call one of the host's methods with the rest of them.

    Args:
        verb: ``train``, ``val``, ``predict``, ``track``, ``tune`` or ``export``.
        pairs: ``key=value`` words; ``model`` takes a recipe.

    Raises:
        UsageError: If a word is not ``key=value`` or there is no model.
    """
    # The host reads its own name there, and then saves, streams and prints as its command does.
    sys.argv[0] = "yolo"
    options = parse_pairs(pairs)
    if "model" not in options:
        raise click.UsageError(f"say which model, as in: attngraft {verb} model=yolo11n+mhsa@P5")
    check_keys(verb, options)
    from attngraft.cli.data_report import report_left_out
    from attngraft.yolo import YOLO

    model = YOLO(options.pop("model"), task=options.pop("task", None))
    if verb == "train":
        model.add_callback("on_pretrain_routine_end", report_left_out)
    return getattr(model, verb)(**options)


def run_export(pairs: Sequence[str]) -> None:
    """Export as the host does, and print how far the file is from its model.

    Args:
        pairs: ``key=value`` words; ``model`` takes a recipe, ``pictures`` says how many to compare on.

    Raises:
        UsageError: If a word is not ``key=value`` or there is no model.
    """
    options = parse_pairs(pairs)
    if "model" not in options:
        raise click.UsageError("say which model, as in: attngraft export model=best.pt format=onnx")
    check_keys("export", {key: value for key, value in options.items() if key not in EXPORT_KEYS})
    from attngraft.yolo import export

    record = export(options.pop("model"), **options)
    click.echo(f"attngraft: {record}\nattngraft: stored in {record.record_file}")


def check_keys(verb: str, options: dict[str, Any]) -> None:
    """Require keys that the host knows, before anything is built.

    Raises:
        UsageError: If one is unknown; names the nearest.
    """
    from attngraft.yolo.host import known_keys

    require_known(verb, options, known_keys(verb))


def require_known(verb: str, options: Iterable[str], known: Sequence[str]) -> None:
    """Require keys that a command knows.

    Raises:
        UsageError: If one is unknown; names the nearest.
    """
    for key in options:
        if key not in known:
            raise click.UsageError(f"{verb} has no key {key!r}; {suggest(key, known)}")


def split_pair(pair: str) -> tuple[str, str]:
    """Split ``key=value``, blanks around ``=`` allowed.

    Raises:
        UsageError: If it is not of that form.
    """
    key, equals, value = (part.strip() for part in pair.partition("="))
    if not (key and equals and value):
        raise click.UsageError(f"expected key=value, got {pair!r}, as in: epochs=50")
    return key, value


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` words as the host's command does.

    Args:
        pairs: The words, blanks around ``=`` allowed.

    Raises:
        UsageError: If a word is not ``key=value``.
    """
    for pair in pairs:
        split_pair(pair)
    from attngraft.yolo.host import parse_pair

    options = dict(parse_pair(pair) for pair in pairs)
    if "model" in options:
        options["model"] = str(options["model"])
    return options
