"""The commands of Ultralytics, given a recipe for a model: train, val, predict, track, tune and export."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attngraft._core.errors import OptionError
from attngraft.cli import pairs
from attngraft.cli.groups import output as output_option
from attngraft.cli.groups import words as words_argument

if TYPE_CHECKING:
    from attngraft.export.parity import OutputDeviation
    from attngraft.yolo.exporting import ExportRecord

VERBS = {
    "train": "Train a recipe: attngraft train model=yolo11n+mhsa@P5 data=my.yaml epochs=50",
    "val": "Validate a model: attngraft val model=best.pt data=my.yaml",
    "predict": "Predict on images or video: attngraft predict model=best.pt source=images/",
    "track": "Track objects in a video: attngraft track model=best.pt source=video.mp4",
    "tune": "Search hyperparameters: attngraft tune model=yolo11n+mhsa@P5 data=my.yaml iterations=30",
}
EXPORT_KEYS = ("images", "half", "int8")
"""Keys of our own export besides those of Ultralytics."""
ELSEWHERE = {
    "train": ("Predict", "Visualize", "Export", "Tracker"),
    "val": ("Predict", "Visualize", "Export", "Tracker", "Hyperparameters"),
    "predict": ("Segmentation", "Classification", "Export", "Tracker", "Hyperparameters"),
    "track": ("Segmentation", "Classification", "Export", "Hyperparameters"),
    "export": ("Segmentation", "Classification", "Predict", "Visualize", "Tracker", "Hyperparameters"),
}
"""Groups of options that another verb is about; its help shows them."""


class Verb(click.Command):
    """A command whose help lists the options of Ultralytics too, in groups, with their defaults."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write our own options, then those of Ultralytics."""
        super().format_options(ctx, formatter)
        from attngraft.yolo.keys import option_groups

        verb = str(self.name)
        left_out = ELSEWHERE[{"tune": "train"}.get(verb, verb)]
        for title, options in option_groups().items():
            if not title.startswith(left_out):
                with formatter.section(f"{title} (Ultralytics)"):
                    formatter.write_dl([(option.as_word, option.about) for option in options])
        others = sorted(set(VERBS) - {verb, "tune"})
        formatter.write_paragraph()
        formatter.write_text(
            f"All Ultralytics options are accepted; those of other commands stand under {', '.join(others)} --help."
        )


def commands() -> list[click.Command]:
    """Make a command of each verb."""
    return [_command(verb, about) for verb, about in VERBS.items()]


def _command(verb: str, about: str) -> click.Command:
    @words_argument(verb, "KEY=VALUE ...", required=False)
    @output_option("Folder to fill; the next free name is taken if it exists.", "runs/TASK/NAME of Ultralytics")
    def run(words: tuple[str, ...], output: Path | None) -> None:
        run_verb(verb, words, output)

    run.__doc__ = about
    return click.command(verb, cls=Verb)(run)


@click.command(cls=Verb)
@words_argument("export", "KEY=VALUE ...", required=False)
@output_option("File to write, or the folder to put it in.", "beside the model")
def export(words: tuple[str, ...], output: Path | None) -> None:
    """Export a model and compare the file with it: attngraft export model=best.pt format=onnx dynamic=True.

    Images of source= or data= (or generated ones) go through the model and the file; the largest deviation of boxes
    and scores is printed and stored beside the file. A file over its bound is kept aside as *.rejected, and the
    command exits with status 1.
    """
    run_export(words, output)


def run_verb(verb: str, words: Sequence[str], output: Path | None = None) -> Any:
    """Open the model that the words name and call a method of Ultralytics with the rest of them.

    Args:
        verb: ``train``, ``val``, ``predict``, ``track`` or ``tune``.
        words: ``key=value`` words; ``model`` takes a recipe.
        output: Folder to fill; None leaves it to Ultralytics.

    Raises:
        UsageError: If a word is not ``key=value`` or there is no model.
    """
    # Ultralytics reads its own name there, and then saves, streams and prints as its command does.
    sys.argv[0] = "yolo"
    options = _options(verb, words, f"attngraft {verb} model=yolo11n+mhsa@P5")
    folder = pairs.take(options, verb, "output", given=output)
    _check_keys(verb, options)
    if folder is not None:
        _name_folder(verb, options, Path(folder))
    from attngraft.cli.data_report import report_left_out
    from attngraft.yolo import YOLO
    from attngraft.yolo.host import packages_named, require_data

    require_data(options.get("data"))
    model = YOLO(options.pop("model"), task=options.pop("task", None))
    if verb == "train":
        model.add_callback("on_pretrain_routine_end", report_left_out)
    with packages_named(verb):
        try:
            return getattr(model, verb)(**options)
        except KeyboardInterrupt as stopped:
            if verb != "train":
                raise
            raise KeyboardInterrupt(_how_to_resume(model)) from stopped


def _how_to_resume(model: Any) -> str:
    """Say what is kept of a training run that was interrupted, and how to resume it."""
    last = getattr(model.trainer, "last", None)
    if last is None or not last.is_file():
        return "stopped before an epoch ended; nothing is kept"
    return f"stopped; resume with: attngraft train {shlex.quote(f'model={last}')} resume=True"


def run_export(words: Sequence[str], output: Path | None = None) -> None:
    """Export as Ultralytics does, and print how far the file is from its model.

    Args:
        words: ``key=value`` words; ``model`` takes a recipe, ``images`` says how many to compare on.
        output: The file, or the folder to put it in; None writes it beside the model.

    Raises:
        UsageError: If a word is not ``key=value`` or there is no model.
    """
    options = _options("export", words, "attngraft export model=best.pt format=onnx")
    target = pairs.take(options, "export", "output", given=output)
    count = pairs.take(options, "export", "images", "pictures")
    _check_keys("export", {key: given for key, given in options.items() if key not in EXPORT_KEYS})
    from attngraft.yolo import export

    if target is not None:
        options["output"] = Path(target)
    if count is not None:
        options["images"] = count
    record = export(options.pop("model"), **options)
    for line in _lines(record):
        click.echo(f"attngraft: {line}")


def _lines(record: ExportRecord) -> Iterator[str]:
    """Say in short lines what was written, and how far it is from the model."""
    yield f"{record.file} written"
    if record.deviation is None:
        yield f"not compared with the model: {record.reason}"
    else:
        yield f"compared with the model on {record.images}"
        yield from ([record.deviation.error] if record.deviation.error else map(_deviation, record.deviation.outputs))
    if record.sure is False:
        yield "the model is sure of nothing on them (no score reaches its threshold), so this proves little"
        yield "compare on images with objects that it finds: source=images/"
    yield f"stored in {record.record_file}"


def _deviation(output: OutputDeviation) -> str:
    allowed = [f"{key} {bound:.0e}" for key, bound in vars(output.bound).items() if bound < math.inf]
    shape = " x ".join(map(str, output.inputs[0]))
    found = f"absolute {output.absolute:.1e}, relative {output.relative:.1e} at {shape}"
    return f"  {output.name}: {found}; allowed: {', '.join(allowed) or 'anything'}"


def _options(verb: str, words: Sequence[str], example: str) -> dict[str, Any]:
    options = pairs.parse(words, last_wins=True)
    if "model" not in options:
        raise click.UsageError(f"say which model, as in: {example}")
    return options


def _check_keys(verb: str, options: dict[str, Any]) -> None:
    """Require keys that Ultralytics knows or still takes under an old name, before anything is built."""
    from attngraft.yolo.host import known_keys, still_takes

    known = known_keys(verb)
    pairs.require_known(verb, [key for key in options if key in known or not still_takes(key)], known)


def _name_folder(verb: str, options: dict[str, Any], folder: Path) -> None:
    """Say a folder in the two words of Ultralytics.

    Raises:
        OptionError: If they are given as well.
    """
    for key in ("project", "name"):
        if key in options:
            raise OptionError(f"{verb} takes output, or project and name; got output={folder} and {key}; leave one out")
    absolute = folder.absolute()
    options |= {"project": str(absolute.parent), "name": absolute.name}
