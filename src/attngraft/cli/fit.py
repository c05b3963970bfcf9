"""``attngraft fit``: train a network of the papers, go on with a training, measure a checkpoint, predict with one."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from attngraft._core.errors import DataError
from attngraft.cli.host import require_known, split_pair

PREDICT_KEYS = ("model", "source", "out", "confidence", "batch", "tile", "overlap", "images", "accelerator")
VERBS = ("predict", "val")
PLAIN = {"true": True, "false": False, "none": None}


def run_fit(words: Sequence[str]) -> None:
    """Do what the words of the command say.

    Args:
        words: ``key=value`` words, after a verb or none.

    Raises:
        UsageError: If the words make no sense.
    """
    verb = words[0] if words[0] in VERBS else "train"
    options = parse(words[verb in VERBS :])
    {"predict": _predict, "val": _val, "train": _train}[verb](options)


def parse(words: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` words; a value is a number, a list with commas, True, False, None, or a text.

    Raises:
        UsageError: If a word is not ``key=value``.

    Example:
        >>> parse(["lr=1e-3", "jitter=0.5,2", "devices=0,1", "model=botnet50", "flip=False"])
        {'lr': 0.001, 'jitter': (0.5, 2), 'devices': (0, 1), 'model': 'botnet50', 'flip': False}
    """
    options: dict[str, Any] = {}
    for word in words:
        key, value = split_pair(word)
        if key in options:
            raise click.UsageError(f"{key} is given twice; leave one out")
        options[key] = _value(value)
    return options


def _value(text: str) -> Any:
    if text.lower() in PLAIN:
        return PLAIN[text.lower()]
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _train(options: dict[str, Any]) -> None:
    from attngraft._core.extras import extra_package

    extra_package("lightning", "fit")
    from attngraft.fit.training import RUNS, Fit, latest

    resume = options.pop("resume", None)
    if not resume:
        for key in ("model", "data"):
            if key not in options:
                raise click.UsageError(f"fit needs {key}, as in: attngraft fit model=botnet50 data=FOLDER epochs=50")
        Fit(str(options.pop("model")), str(options.pop("data")), say=click.echo, **options).run()
        return
    folder = Path(str(resume))
    if resume is True:
        name = options.pop("model", None)
        out = options.pop("out", None) or (RUNS / str(name) if name else None)
        if out is None:
            raise click.UsageError("say which training goes on, as in: attngraft fit resume=runs/fit/botnet50")
        folder = latest(Path(str(out)))
    Fit.resume(folder, say=click.echo, **options).run()


def _val(options: dict[str, Any]) -> None:
    trained, rest = _trained(options, "val")
    from attngraft.fit.callbacks import measured
    from attngraft.fit.training import validate

    numbers = validate(trained, **rest)
    click.echo(f"{trained.path}: {measured(trained.learner, numbers)}")


def _predict(options: dict[str, Any]) -> None:
    require_known("fit predict", options, PREDICT_KEYS)
    if "source" not in options:
        raise click.UsageError("fit predict needs source: an image, a folder of images or a COCO JSON")
    trained, rest = _trained(options, "predict")
    from attngraft.fit.predicting import predict

    source = str(rest.pop("source"))
    results = predict(trained, source, say=click.echo, **rest)
    unread = sum(result is None for result in results)
    if unread:
        raise DataError(f"{unread} of {len(results)} images in {source} are left out; the lines above name them")


def _trained(options: dict[str, Any], verb: str) -> tuple[Any, dict[str, Any]]:
    if "model" not in options:
        raise click.UsageError(f"fit {verb} needs model, as in: attngraft fit {verb} model=runs/fit/botnet50/best.ckpt")
    from attngraft._core.extras import extra_package

    extra_package("lightning", "fit")
    from attngraft.fit.trained import load

    return load(str(options["model"])), {key: value for key, value in options.items() if key != "model"}
