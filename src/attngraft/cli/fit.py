"""``attngraft fit``: train a network of the papers, resume a run, validate a checkpoint, predict with one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from attngraft._core.progress import Lines
from attngraft.cli import pairs
from attngraft.cli.groups import Verbs
from attngraft.cli.groups import output as output_option
from attngraft.cli.groups import words as words_argument

PREDICT_KEYS = ("model", "source", "out", "confidence", "batch", "tile", "overlap", "images", "accelerator")


@click.group(cls=Verbs)
def fit() -> None:
    r"""Train a network of the papers: BoTNet, DilateFormer, FLatten, HAT, and what detects with them.

    \b
    attngraft fit model=botnet50 data=flowers epochs=60 imgsz=128
    attngraft fit model=fasterrcnn_botnet50 data=coco/annotations/instances_train2017.json preset=paper devices=8
    attngraft fit model=hat_s data=photos scale=4 model.channels=60
    attngraft fit resume=runs/fit/botnet50
    attngraft fit val model=runs/fit/botnet50 split=test
    attngraft fit predict model=runs/fit/botnet50 source=images

    The verb run need not be said. Each verb has a --help of its own.
    """


@fit.command()
@words_argument("fit run", "KEY=VALUE ...")
@output_option("Folder to fill; the next free name is taken if it exists.", "runs/fit/MODEL")
def run(words: tuple[str, ...], output: Path | None) -> None:
    """Train a network, or resume a run with resume=FOLDER.

    Data are a folder with train/ and val/ (classify: one folder per class in them; superres: images, or hr/ and lr/),
    COCO's JSON or YOLO's data.yaml (detect, segment). What is not given comes from preset=small or preset=paper, and
    is written out in fit.yaml.
    """
    options = _options(words, "fit", output)
    _lightning()
    from attngraft.fit.training import Fit

    if options.get("resume"):
        folder = _resumed(options)
        Fit.resume(folder, progress=Lines(click.echo), **options).run()
        return
    options.pop("resume", None)
    for key in ("model", "data"):
        if key not in options:
            raise click.UsageError(f"fit needs {key}, as in: attngraft fit model=botnet50 data=FOLDER epochs=50")
    Fit(str(options.pop("model")), str(options.pop("data")), progress=Lines(click.echo), **options).run()


@fit.command()
@words_argument("fit val", "model=CHECKPOINT KEY=VALUE ...", required=False)
def val(words: tuple[str, ...]) -> None:
    """Validate a checkpoint on the data of its run, or on data=."""
    trained, rest = _trained(_options(words, "fit val"), "val")
    from attngraft.fit.callbacks import measured
    from attngraft.fit.training import validate

    numbers = validate(trained, **rest)
    click.echo(f"{trained.path}: {measured(trained.learner, numbers)}")


@fit.command()
@words_argument("fit predict", "model=CHECKPOINT source=IMAGES KEY=VALUE ...", required=False)
@output_option("Folder to fill; the next free name is taken if it exists.", "predict beside the checkpoint")
def predict(words: tuple[str, ...], output: Path | None) -> None:
    """Predict on an image or a folder of images."""
    options = _options(words, "fit predict", output)
    pairs.require_known("fit predict", options, PREDICT_KEYS)
    if "source" not in options:
        raise click.UsageError("fit predict needs source: an image, a folder of images or a COCO JSON")
    trained, rest = _trained(options, "predict")
    from attngraft._core.errors import DataError
    from attngraft.fit.predicting import predict_each

    source = str(rest.pop("source"))
    done = Counter(result is None for result in predict_each(trained, source, progress=Lines(click.echo), **rest))
    if done[True]:
        raise DataError(f"{done[True]} of {done.total()} images in {source} are left out; the lines above name them")


def _options(words: Sequence[str], command: str, output: Path | None = None) -> dict[str, Any]:
    """Read the words; an output that is named becomes ``out``."""
    options = pairs.parse(words)
    folder = pairs.take(options, command, "output", "out", given=output)
    return options if folder is None else {**options, "out": str(folder)}


def _resumed(options: dict[str, Any]) -> Path:
    """Take the folder of the run to resume out of the options.

    Raises:
        UsageError: If they do not say which.
    """
    from attngraft.fit.training import RUNS, latest

    given = options.pop("resume")
    if given is not True:
        return Path(str(given))
    name = options.pop("model", None)
    out = options.pop("out", None) or (RUNS / str(name) if name else None)
    if out is None:
        raise click.UsageError("say which run to resume, as in: attngraft fit resume=runs/fit/botnet50")
    return latest(Path(str(out)))


def _trained(options: dict[str, Any], verb: str) -> tuple[Any, dict[str, Any]]:
    if "model" not in options:
        raise click.UsageError(f"fit {verb} needs model, as in: attngraft fit {verb} model=runs/fit/botnet50/best.ckpt")
    _lightning()
    from attngraft.fit.trained import load

    return load(str(options["model"])), {key: given for key, given in options.items() if key != "model"}


def _lightning() -> None:
    from attngraft._core.extras import extra_package

    extra_package("lightning", "fit")
