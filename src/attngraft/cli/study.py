"""``attngraft study``: start, look at, resume and report a study."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attngraft._core.errors import suggest
from attngraft.cli import pairs
from attngraft.cli.groups import Verbs, Words
from attngraft.cli.groups import output as output_option
from attngraft.cli.groups import words as words_argument
from attngraft.cli.study_judge import combine, judge
from attngraft.cli.study_output import COMPLETE, INCOMPLETE, conclude, print_estimate, print_status, quoted

if TYPE_CHECKING:
    from attngraft.study import Study

SEARCH_KEYS = ("mechanisms", "places", "winners", "keep", "held_out")
RUN_KEYS = ("parallel", "engine", "address", "gpus", "anyway")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print arms, runs, time and disk, and run nothing.")
FOLDER = click.argument("folder", type=Words("study folder"), required=False, metavar="FOLDER")

TRUST = click.option("--trust", is_flag=True, help="Start the program of a plan that was not begun here.")


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
    begun, options = _study_of("study run", words, output)
    how = _how(options)
    sys.exit(_carry_out(begun(options), how, dry_run=dry_run))


@study.command()
@words_argument("study prepare", "PLAN.yaml | KEY=VALUE ...")
@output_option("Folder of the study.", "runs/study/NAME")
def prepare(words: tuple[str, ...], output: Path | None) -> None:
    """Fix the plan of a study and run nothing, for study work on other machines."""
    begun, options = _study_of("study prepare", words, output)
    found = begun(options)
    click.echo(f"{found.prepare()} runs, from --run 0 on: attngraft study work {quoted(found.folder)} --run K")


@study.command()
@FOLDER
@click.option("--run", "number", type=click.IntRange(0), required=True, help="Which run, counted from 0.")
@TRUST
def work(folder: str | None, number: int, trust: bool) -> None:
    """Carry out one run of a prepared study, such as one task of a SLURM array.

    Runs are counted seed by seed, all arms of the first seed first; a run that is finished is left alone. Exits with
    status 1 if it failed.
    """
    run, why = _opened("work", folder, trust=trust).work(number)
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


def _study_of(
    command: str, words: tuple[str, ...], output: Path | None
) -> tuple[Callable[[dict[str, Any]], Study], dict[str, Any]]:
    """Return what makes the study that the words ask for, once those options are taken that are not the plan's."""
    from attngraft.study import Study

    files = [word for word in words if not pairs.is_pair(word)]
    if split := pairs.split_list(words):
        raise click.UsageError(f"a list has commas in the place of blanks, as in: {split}")
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
    sys.exit(print_status(_opened("status", folder)))


@study.command()
@FOLDER
@words_argument("study resume", "KEY=VALUE ...", required=False)
@DRY_RUN
@TRUST
def resume(folder: str | None, words: tuple[str, ...], dry_run: bool, trust: bool) -> None:
    """Carry out what is missing of a study, whatever stopped it."""
    begun = _opened("resume", folder, trust=trust)
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
        f"extended from {stages[-2]} to {stages[-1]} seeds; resume with: attngraft study resume {quoted(begun.folder)}"
    )


@study.command()
@FOLDER
@words_argument("study relocate", "data=FILE base=FILE")
def relocate(folder: str | None, words: tuple[str, ...]) -> None:
    """Say where a study's data, or the file that arms are grafted onto, lie now, after they or the study were moved.

    The plan and its hash stay. Images other than those that finished runs were evaluated on are refused.
    """
    options = _options(words)
    if not options or not set(options) <= {"data", "base"}:
        raise click.UsageError("relocate takes a folder and data=, base= or both, as in: data=/new/place/data.yaml")
    begun = _opened("relocate", folder)
    begun.relocate(**options)
    click.echo(f"noted in {quoted(begun.folder)}; resume with: attngraft study resume {quoted(begun.folder)}")


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
    from attngraft.study.home import home
    from attngraft.study.plan import Plan
    from attngraft.study.search import Search, candidates

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
    sys.exit(conclude(screen, winners, failed))


for _command in (judge, combine):
    study.add_command(_command)


@study.command()
@click.argument("what", type=click.Choice(["plan", "results", "combined", "status"]), default="plan")
def schema(what: str) -> None:
    """Print the JSON schema of a plan, results.json, combined.json or status.json, for editors and programs."""
    import importlib
    import json

    from attngraft._core.streams import stdout_to_stderr

    modules = {
        "plan": "plan_schema",
        "results": "judging.results",
        "combined": "judging.combine",
        "status": "running.status",
    }
    with stdout_to_stderr():  # Ultralytics greets on a fresh machine
        found = importlib.import_module(f"attngraft.study.{modules[what]}").schema()
    click.echo(json.dumps(found, indent=2))


def _opened(verb: str, folder: str | None, *, trust: bool = False) -> Study:
    from attngraft.study import Study

    if folder is None or pairs.is_pair(folder):
        raise click.UsageError(f"say which study, as in: attngraft study {verb} runs/study/plan")
    return Study.open(folder, trust=trust)


def _options(words: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` words; ``train.key=value`` goes under ``train``."""
    own = [word for word in words if not word.startswith("train.")]
    training = [word.removeprefix("train.") for word in words if word.startswith("train.")]
    return pairs.parse(own) | ({"train": pairs.parse(training)} if training else {})


def _how(options: dict[str, Any]) -> dict[str, Any]:
    """Take what says how a plan is carried out."""
    return {key: options.pop(key) for key in RUN_KEYS if key in options}


def _carry_out(begun: Study, how: dict[str, Any], *, dry_run: bool) -> int:
    from attngraft.cli.output import console

    screen = console()
    if dry_run:
        print_estimate(screen, begun, how.get("parallel"))
        return COMPLETE
    try:
        return conclude(screen, begun, begun.run(**how, console=screen))
    except KeyboardInterrupt as stopped:
        raise KeyboardInterrupt(f"stopped; resume with: attngraft study resume {quoted(begun.folder)}") from stopped
