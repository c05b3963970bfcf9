"""``attngraft study``: start, look at, resume and report a study."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attngraft._core.errors import suggest
from attngraft.cli import pairs
from attngraft.cli.groups import Verbs, Words
from attngraft.cli.groups import output as output_option
from attngraft.cli.groups import words as words_argument

if TYPE_CHECKING:
    from rich.console import Console

    from attngraft._core.progress import Progress
    from attngraft.study import Study
    from attngraft.study.judging.results import Results, RunResult
    from attngraft.study.running.records import Run

SEARCH_KEYS = ("mechanisms", "places", "winners", "keep", "held_out")
RUN_KEYS = ("parallel", "engine", "address", "gpus", "anyway")
TERMS = ("metric", "baseline", "sesoi", "alpha", "split")
FORM_KEYS = {"csv": ["scale"], "predictions": ["truth", "task"], "folders": ["data", "imgsz", "batch", "device"]}
JUDGE_KEYS = (*TERMS, "unpaired", *(key for keys in FORM_KEYS.values() for key in keys))
COMPLETE, INCOMPLETE = 0, 1
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print arms, runs, time and disk, and run nothing.")
FOLDER = click.argument("folder", type=Words("study folder"), required=False, metavar="FOLDER")


@click.group(cls=Verbs)
def study() -> None:
    r"""Find out whether arms beat the baseline on your data, and how sure that is.

    \b
    attngraft study data=fruit.yaml base=yolo11n arms=mhsa@P5,ema@P4 seeds=5 epochs=50
    attngraft study plan.yaml parallel=2
    attngraft study plan.yaml engine=ray address=auto gpus=0.5
    attngraft study resume runs/study/plan
    attngraft study search mechanisms=mhsa,eca,se places=P3,P4,P5 winners=2 data=fruit.yaml epochs=50

    The verb run need not be said. Each verb has a --help of its own.
    """


def _print_schema(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        context.invoke(schema, what="plan")
        context.exit()


@study.command()
@words_argument("study run", "PLAN.yaml | KEY=VALUE ...")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print a plan's JSON schema.",
)
@output_option("Folder of the study.", "runs/study/NAME")
@DRY_RUN
def run(words: tuple[str, ...], output: Path | None, dry_run: bool) -> None:
    """Carry a study out, from a plan or from keys.

    Keys are the plan's, and all Ultralytics options; parallel= (runs at once), engine=, address= and gpus= say how it
    is carried out, and anyway=True continues where the baseline's first run has learned nothing. train.KEY=VALUE always
    means Ultralytics' option. Exits with status 1 if a run failed.
    """
    begun, options = _asked("study run", words, output)
    how = _how(options)
    sys.exit(_carry_out(begun(options), how, dry_run=dry_run))


@study.command()
@words_argument("study prepare", "PLAN.yaml | KEY=VALUE ...")
@output_option("Folder of the study.", "runs/study/NAME")
def prepare(words: tuple[str, ...], output: Path | None) -> None:
    """Fix the plan of a study and run nothing, for study work on other machines."""
    begun, options = _asked("study prepare", words, output)
    found = begun(options)
    click.echo(f"{found.prepare()} runs, from --run 0 on: attngraft study work {_quoted(found.folder)} --run K")


@study.command()
@FOLDER
@click.option("--run", "number", type=click.IntRange(0), required=True, help="Which run, counted from 0.")
def work(folder: str | None, number: int) -> None:
    """Carry out one run of a prepared study, such as one task of a SLURM array.

    Runs are counted seed by seed, all arms of the first seed first; a run that is finished is left alone. Exits with
    status 1 if it failed.
    """
    run, why = _opened("work", folder).work(number)
    click.echo(f"{run}: {f'failed: {why}' if why else 'finished'}")
    sys.exit(INCOMPLETE if why else COMPLETE)


@study.command()
@FOLDER
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1.  [default: a free one]")
def monitor(folder: str | None, port: int) -> None:
    """Follow a study on a page of this machine, until Ctrl-C."""
    from attngraft.study.monitor import server

    with server(_opened("monitor", folder).folder, port) as serving:
        click.echo(f"http://127.0.0.1:{serving.server_port}/ (end with Ctrl-C)")
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            click.echo("ended")


def _asked(
    command: str, words: tuple[str, ...], output: Path | None
) -> tuple[Callable[[dict[str, Any]], Study], dict[str, Any]]:
    """Return what makes the study that the words ask for, once those options are taken that are not the plan's."""
    from attngraft.study import Study

    files = [word for word in words if not pairs.is_pair(word)]
    if len(files) > 1 or (files and not Path(files[0]).suffix and not Path(files[0]).exists()):
        raise click.UsageError(
            f"expected one plan or a verb, got {' '.join(files)}; {suggest(files[0], list(study.commands))}"
        )
    options = _options([word for word in words if pairs.is_pair(word)])
    folder = pairs.take(options, command, "output", "folder", given=output)
    return lambda keys: Study(files[0] if files else None, folder=folder, **keys), options


@study.command()
@FOLDER
def status(folder: str | None) -> None:
    """Print what is finished; exits with status 1 if a run is missing."""
    sys.exit(_print_status(_opened("status", folder)))


@study.command()
@FOLDER
@words_argument("study resume", "KEY=VALUE ...", required=False)
@DRY_RUN
def resume(folder: str | None, words: tuple[str, ...], dry_run: bool) -> None:
    """Carry out what is missing of a study, whatever stopped it."""
    begun = _opened("resume", folder)
    options = _options(words)
    how = _how(options)
    if options:
        raise click.UsageError(
            f"resume takes {', '.join(RUN_KEYS)}, got {next(iter(options))}; a changed plan is a new study"
        )
    sys.exit(_carry_out(begun, how, dry_run=dry_run))


@study.command()
@FOLDER
@words_argument("study extend", "max_seeds=N")
def extend(folder: str | None, words: tuple[str, ...]) -> None:
    """Let an undecided study go on to more seeds; every record is used, and verdicts still hold at the plan's alpha."""
    options = _options(words)
    if set(options) != {"max_seeds"}:
        raise click.UsageError("extend takes a folder and the most seeds of each arm, as in: max_seeds=30")
    begun = _opened("extend", folder)
    stages = begun.extend(options["max_seeds"])
    click.echo(
        f"extended from {stages[-2]} to {stages[-1]} seeds; resume with: attngraft study resume {_quoted(begun.folder)}"
    )


@study.command()
@FOLDER
def report(folder: str | None) -> None:
    """Write the report of what is finished."""
    click.echo(f"{_opened('report', folder).report()} written")


@study.command()
@words_argument("study search", "KEY=VALUE ...")
@output_option("Folder of the search and of the study.", "runs/study/search-DATA")
@DRY_RUN
def search(words: tuple[str, ...], output: Path | None, dry_run: bool) -> None:
    """Screen mechanisms and places in short runs, then study the winners.

    Keys are mechanisms=, places=, winners=, keep= (the top 1/keep advance), held_out=, and those of study run.
    """
    from attngraft.cli.output import console
    from attngraft.study.plan import Plan
    from attngraft.study.search import Search, candidates
    from attngraft.study.study import home

    options = _options(words)
    folder = pairs.take(options, "study search", "output", "folder", given=output)
    how = _how(options)
    own = {key: options.pop(key) for key in SEARCH_KEYS if key in options}
    if "mechanisms" in own:
        options["arms"] = candidates(str(own.pop("mechanisms")), str(own.pop("places", "P5")))
    plan = Plan.of(options)
    found = Search(plan, folder=folder or home(f"search-{Path(plan.data).stem}"), **own)
    screen = console()
    for index, rung in enumerate(found.rungs(), 1):
        screen.print(f"rung {index}: {rung.candidates} candidates, {rung.epochs} epochs each")
    if dry_run:
        screen.print("Nothing was run or written.")
        return
    winners, failed = found.run(**how, console=screen)
    sys.exit(_conclude(screen, winners, failed))


@study.command()
@words_argument("study judge", "[RUNS.csv] ARM=RUNS ... KEY=VALUE ...")
@output_option("Folder of the report.", "judged")
def judge(words: tuple[str, ...], output: Path | None) -> None:
    r"""Judge runs that exist already, of any program, as a study judges its own.

    \b
    attngraft study judge runs.csv baseline=yolo11n sesoi=0.5
    attngraft study judge stock=runs/detect/stock* mhsa=runs/detect/mhsa*
    attngraft study judge truth=val.json stock=stock-*.json mhsa=mhsa-*.json
    attngraft study judge studies/beacons

    Runs are a CSV file with the columns arm, seed and a metric; folders of Ultralytics training runs, which are
    evaluated anew; or, with truth=, prediction files in COCO's results format whose names end in the seed. A folder
    with the plan.yaml and records.jsonl of a published study is judged anew, from its records alone.

    Further keys: baseline=, metric=, sesoi=, alpha=, unpaired=drop; scale= of a CSV; task= of predictions; data=,
    split=, imgsz=, batch= and device= of folders.
    """
    from attngraft.cli.output import console
    from attngraft.cli.progress import StatusLine
    from attngraft.study.existing.judging import write_judgement

    files = [word for word in words if "=" not in word]
    options = pairs.parse([word for word in words if "=" in word])
    output = pairs.take(options, "study judge", "output", "folder", given=output)
    with StatusLine(console(stderr=True)) as progress:
        results = _judged(files, options, progress)
    concluded = write_judgement(results, Path(output) if output else None)
    for sentence in concluded.answers:
        click.echo(sentence)
    click.echo(f"report: {concluded.report}")


@study.command()
@words_argument("study combine", "FOLDER FOLDER ... [arm=ARM]")
@output_option("Folder of the report.", "combined")
def combine(words: tuple[str, ...], output: Path | None) -> None:
    """Combine studies or judgements of one arm on several data sets or bases, by random effects."""
    from attngraft._core.files import free_path
    from attngraft.study.existing.studies import read_studies
    from attngraft.study.judging.combine import combine as combined_over
    from attngraft.study.reporting.forest import sentences, write_combined

    options = pairs.parse([word for word in words if pairs.is_pair(word)])
    pairs.require_known("study combine", options, ["arm", "output"])
    output = pairs.take(options, "study combine", "output", given=output)
    folders = [Path(word) for word in words if not pairs.is_pair(word)]
    combined = combined_over(read_studies(folders), options.get("arm"))
    page = write_combined(combined, Path(output) if output else free_path(Path("combined")))
    for sentence in sentences(combined):
        click.echo(sentence)
    click.echo(f"report: {page}")


@study.command()
@click.argument("what", type=click.Choice(["plan", "results", "combined", "status"]), default="plan")
def schema(what: str) -> None:
    """Print the JSON schema of a plan, results.json, combined.json or status.json, for editors and programs."""
    import importlib
    import json

    from attngraft._core.streams import stdout_to_stderr

    modules = {"plan": "plan", "results": "judging.results", "combined": "judging.combine", "status": "running.status"}
    with stdout_to_stderr():  # Ultralytics greets on a fresh machine
        found = importlib.import_module(f"attngraft.study.{modules[what]}").schema()
    click.echo(json.dumps(found, indent=2))


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
    if len(files) > 1 or bool(files) == bool(arms):
        raise click.UsageError("study judge takes one CSV file, or arms, as in: stock=runs/stock* mhsa=runs/mhsa*")
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
        found = runs.read_run_folders(arms, progress=progress, split=terms.get("split", "val"), **known)
    return judge_found(found, Terms(**terms))


def _opened(verb: str, folder: str | None) -> Study:
    from attngraft.study import Study

    if folder is None or pairs.is_pair(folder):
        raise click.UsageError(f"say which study, as in: attngraft study {verb} runs/study/plan")
    return Study.open(folder)


def _options(words: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` words; ``train.key=value`` goes under ``train``."""
    own = [word for word in words if not word.startswith("train.")]
    training = [word.removeprefix("train.") for word in words if word.startswith("train.")]
    return pairs.parse(own) | ({"train": pairs.parse(training)} if training else {})


def _how(options: dict[str, Any]) -> dict[str, Any]:
    """Take what says how a plan is carried out; ``workers`` is what ``parallel`` was called."""
    if "workers" in options:
        click.echo(
            "attngraft: workers= is called parallel= now: how many runs at once; loader processes are train.workers=",
            err=True,
        )
    parallel = pairs.take(options, "study", "parallel", "workers")
    found = {key: options.pop(key) for key in RUN_KEYS if key in options}
    return found if parallel is None else {"workers": parallel, **found}


def _carry_out(begun: Study, how: dict[str, Any], *, dry_run: bool) -> int:
    from attngraft.cli.output import console

    screen = console()
    if dry_run:
        _print_estimate(screen, begun, how.get("workers"))
        return COMPLETE
    return _conclude(screen, begun, begun.run(**how, console=screen))


def _conclude(screen: Console, finished: Study, failed: Mapping[Run, str]) -> int:
    if finished.comparable():
        concluded = finished.conclude()
        for sentence in concluded.answers:
            screen.print(sentence, markup=False, highlight=False, soft_wrap=True)
        screen.print(f"report: {concluded.report}", soft_wrap=True)
    for one, why in failed.items():
        screen.print(f"failed: {one}: {why}", markup=False, soft_wrap=True)
    if failed:
        screen.print(f"resume with: attngraft study resume {_quoted(finished.folder)}", soft_wrap=True)
    return INCOMPLETE if failed else COMPLETE


def _print_status(begun: Study) -> int:
    """Print what is finished and what it came to so far; the status says whether anything is missing."""
    from rich.table import Table

    from attngraft.cli.output import console
    from attngraft.study.reporting.words import headline

    results, screen = begun.results, console()
    table = Table("arm", "seed", "state", title=f"{begun.folder}, plan {results.setting.hash}")
    for run in results.runs:
        table.add_row(run.arm, str(run.seed), _state(begun, run))
    screen.print(table)
    for sentence in headline(results):
        screen.print(sentence, markup=False, highlight=False, soft_wrap=True)
    return COMPLETE if len(results.finished) == len(results.runs) else INCOMPLETE


def _state(begun: Study, run: RunResult) -> str:
    from attngraft.study.running.records import Run
    from attngraft.study.running.run import curve

    if run.value is not None:
        return f"{begun.plan.metric} {run.value:.2f}"
    if run.error:
        return f"failed: {run.error}"
    epochs = len(curve(begun.store.training(Run(begun.fixed().arm(run.arm), run.seed))))
    return f"epoch {epochs}/{begun.plan.train['epochs']}" if epochs else "missing"


def _print_estimate(screen: Console, begun: Study, parallel: int | None) -> None:
    from rich.table import Table

    from attngraft.cli.progress import StatusLine

    with StatusLine(screen) as progress:
        found = begun.forecast(parallel, progress=progress)
    table = Table("arm", "recipe", "one run", title=f"{found.runs} runs, {found.workers} at once")
    for arm in found.fixed.arms:
        table.add_row(arm.name, Path(arm.model).name, _duration(found.seconds[arm.name]))
    screen.print(table)
    for arm in found.fixed.arms:
        if arm.note:
            screen.print(f"{arm.name}: {arm.note}", soft_wrap=True)
    most = " at most" if begun.plan.max_seeds else ""
    screen.print(
        f"about {_duration(found.seconds[''])}{most}, from timing training steps on this machine; "
        f"{found.bytes / 1e9:.1f} GB of {found.free / 1e9:.0f} GB free in {begun.folder}. Nothing was run or written.",
        soft_wrap=True,
    )
    if said := begun.decidable():
        screen.print(said, soft_wrap=True, markup=False, highlight=False)
    for warning in found.warnings:
        screen.print(f"warning: {warning}", soft_wrap=True, markup=False)


def _duration(seconds: float) -> str:
    """Write a duration.

    Example:
        >>> [_duration(s) for s in (42, 630, 9000, 400_000)]
        ['42 s', '10 min', '2.5 h', '4.6 days']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds // 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def _quoted(folder: Path) -> str:
    """Return a folder as a shell takes it in a command."""
    return shlex.quote(str(folder))
