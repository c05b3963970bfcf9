"""``attngraft study judge`` and ``combine``: runs and studies that exist already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attngraft._core.files import is_file
from attngraft.cli import pairs
from attngraft.cli.groups import output as output_option
from attngraft.cli.groups import words as words_argument

if TYPE_CHECKING:
    from attngraft._core.progress import Progress
    from attngraft.study.judging.results import Results

TERMS = ("metric", "baseline", "sesoi", "alpha")
FORM_KEYS = {
    "csv": ["scale"],
    "predictions": ["truth", "task"],
    "folders": ["data", "split", "imgsz", "batch", "device"],
}
JUDGE_KEYS = (*TERMS, "unpaired", *(key for keys in FORM_KEYS.values() for key in keys))


@click.command()
@words_argument("study judge", "[RUNS.csv] ARM=RUNS ... KEY=VALUE ...")
@output_option("Folder of the report.", "judged")
def judge(words: tuple[str, ...], output: Path | None) -> None:
    r"""Judge runs that exist already, of any program, as a study judges its own.

    \b
    attngraft study judge runs.csv baseline=yolo11n sesoi=0.5
    attngraft study judge stock="runs/detect/stock*" mhsa="runs/detect/mhsa*"
    attngraft study judge truth=val.json stock="stock-*.json" mhsa="mhsa-*.json"
    attngraft study judge studies/beacons

    Runs are a CSV file with the columns arm, seed and a metric; folders of Ultralytics training runs, which are
    evaluated again; or, with truth=, prediction files in COCO's results format whose names end in the seed (or their
    folders' names, where all files are called alike). A folder with the plan.yaml and records.jsonl of a published
    study is judged again, from its records alone.

    Further keys: baseline=, metric=, sesoi=, alpha=, unpaired=drop; scale= of a CSV; task= of predictions; data=,
    split=, imgsz=, batch= and device= of folders.
    """
    from attngraft.cli.output import console
    from attngraft.cli.progress import StatusLine
    from attngraft.study.existing.judging import write_judgement

    files = [word for word in words if "=" not in word or is_file(word)]
    options = pairs.parse([word for word in words if word not in files])
    output = pairs.take(options, "study judge", "output", "folder", given=output)
    with StatusLine(console(stderr=True)) as progress:
        results = _judged(files, options, progress)
    concluded = write_judgement(results, Path(output) if output else None)
    for sentence in concluded.answers:
        click.echo(sentence)
    for line in results.warnings:
        click.echo(f"note: {line}")
    click.echo(f"report: {concluded.report}")


@click.command()
@words_argument("study combine", "FOLDER FOLDER ... [arm=ARM]")
@output_option("Folder of the report.", "combined")
def combine(words: tuple[str, ...], output: Path | None) -> None:
    """Combine studies or judgements of one arm on several data sets or bases, by random effects."""
    from attngraft._core.files import free_path
    from attngraft.study.existing.studies import read_studies
    from attngraft.study.judging.combine import combine as combined_over
    from attngraft.study.reporting.forest import sentences, write_combined

    folders, options = pairs.read(words)
    pairs.require_known("study combine", options, ["arm", "output"])
    output = pairs.take(options, "study combine", "output", given=output)
    combined = combined_over(read_studies([Path(folder) for folder in folders]), options.get("arm"))
    page = write_combined(combined, Path(output) if output else free_path(Path("combined")))
    for sentence in sentences(combined):
        click.echo(sentence)
    click.echo(f"report: {page}")


def _judged(files: Sequence[str], options: dict[str, Any], progress: Progress) -> Results:
    """Judge the runs that the words of ``study judge`` name."""
    from attngraft.study.existing import runs, table
    from attngraft.study.existing.judging import Terms, judge_found, judge_numbers
    from attngraft.study.existing.records import judge_records

    known = {key: options.pop(key) for key in JUDGE_KEYS if key in options}
    arms = {str(name): str(pattern) for name, pattern in options.items()}
    unpaired = known.pop("unpaired", "refuse")
    if unpaired not in ("refuse", "drop"):
        raise click.UsageError(f"unpaired is refuse or drop, got {unpaired!r}")
    terms = {key: known.pop(key) for key in TERMS if key in known} | {"drop": unpaired == "drop"}
    _require_arms(files, arms)
    form = "csv" if files else "predictions" if "truth" in known else "folders"
    pairs.require_known(f"study judge of {form}", known, FORM_KEYS[form])
    if files and Path(files[0]).is_dir():
        pairs.require_known("study judge of records", [*known, *(key for key in terms if key != "drop")], [])
        return judge_records(Path(files[0]))
    if form == "csv":
        numbers, metric = table.read_table(Path(files[0]), terms.pop("metric", None), known.get("scale"))
        return judge_numbers(numbers, Path(files[0]).name, Terms(metric, **terms))
    if form == "predictions":
        found = runs.read_predictions(Path(known.pop("truth")), arms, progress=progress, **known)
    else:
        found = runs.read_run_folders(arms, progress=progress, **known)
    return judge_found(found, Terms(**terms))


def _require_arms(files: Sequence[str], arms: Mapping[str, str]) -> None:
    """Require one table, or arms whose names are no slip of a key."""
    expected = "study judge takes one CSV file, or arms, as in: stock=runs/stock* mhsa=runs/mhsa*"
    if len(files) > 1 or not (files or arms):
        raise click.UsageError(expected)
    for name, pattern in arms.items():
        close = get_close_matches(name, (*JUDGE_KEYS, "output"), n=1, cutoff=0.75)
        if close and not glob(pattern):
            raise click.UsageError(f"study judge has no key {name!r}; did you mean {close[0]}?")
    if files and arms:
        raise click.UsageError(f"{expected}; beside {files[0]} it takes no {next(iter(arms))}=")
