"""``attngraft study``: begin, look at, go on with and report a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from attngraft.cli.host import parse_pairs
from attngraft.study import Study
from attngraft.study.judging.results import RunResult
from attngraft.study.running.records import Run

VERBS = ("status", "resume", "report", "search")
SEARCH_KEYS = ("mechanisms", "places", "winners", "keep", "held_out")
RUN_KEYS = ("workers", "engine", "address", "gpus")
COMPLETE, INCOMPLETE = 0, 1


def run_study(words: Sequence[str], *, dry_run: bool) -> int:
    """Do what the words of the command say.

    Args:
        words: A verb and a folder, or a plan's file or keys.
        dry_run: Whether to say only what would be done.

    Returns:
        The exit code: 1 if a run is missing at the end.

    Raises:
        UsageError: If the words make no sense.
    """
    console = Console()
    if words[0] in VERBS:
        return _verb(console, words[0], words[1:])
    files = [word for word in words if "=" not in word]
    if len(files) > 1:
        raise click.UsageError(f"expected one plan or {', '.join(VERBS)}, got {' '.join(files)}")
    options = _options([word for word in words if "=" in word])
    run = {key: options.pop(key) for key in RUN_KEYS if key in options}
    study = Study(files[0] if files else None, folder=options.pop("folder", None), **options)
    if dry_run:
        _print_estimate(console, study, run.get("workers"))
        return COMPLETE
    return _carry_out(console, study, run)


def _search(console: Console, words: Sequence[str]) -> int:
    """Screen mechanisms and places, then study the winners."""
    from attngraft.study.plan import Plan
    from attngraft.study.search import Search, candidates

    options = _options(words)
    run = {key: options.pop(key) for key in RUN_KEYS if key in options}
    own = {key: options.pop(key) for key in SEARCH_KEYS if key in options}
    if "mechanisms" in own:
        options["arms"] = candidates(str(own.pop("mechanisms")), str(own.pop("places", "P5")))
    folder = options.pop("folder", None)
    plan = Plan.of(options)
    search = Search(plan, folder=folder or Path("studies") / f"search-{Path(plan.data).stem}", **own)
    for index, rung in enumerate(search.rungs(), 1):
        console.print(f"rung {index}: {rung.candidates} candidates, {rung.epochs} epochs each")
    study, failed = search.run(**run, console=console)
    return _conclude(console, study, failed)


def _verb(console: Console, verb: str, words: Sequence[str]) -> int:
    if verb == "search":
        return _search(console, words)
    if not words or "=" in words[0]:
        raise click.UsageError(f"say which study, as in: attngraft study {verb} studies/plan")
    study = Study.open(words[0])
    if verb == "resume":
        return _carry_out(console, study, _run_options(words[1:]))
    if len(words) > 1:
        raise click.UsageError(f"study {verb} takes a folder and nothing else, got {' '.join(words[1:])}")
    if verb == "report":
        console.print(f"{study.report()} written", soft_wrap=True)
        return COMPLETE
    return _print_status(console, study)


def _run_options(words: Sequence[str]) -> dict[str, Any]:
    options = _options(words)
    unknown = [key for key in options if key not in RUN_KEYS]
    if unknown:
        raise click.UsageError(f"resume takes {', '.join(RUN_KEYS)}, got {unknown[0]}; a changed plan is a new study")
    return options


def _options(words: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` words; ``train.key=value`` goes under ``train``."""
    own = [word for word in words if not word.startswith("train.")]
    host = [word.removeprefix("train.") for word in words if word.startswith("train.")]
    return parse_pairs(own) | ({"train": parse_pairs(host)} if host else {})


def _carry_out(console: Console, study: Study, run: dict[str, Any]) -> int:
    return _conclude(console, study, study.run(**run, console=console))


def _conclude(console: Console, study: Study, failed: Mapping[Run, str]) -> int:
    if study.comparable():
        concluded = study.conclude()
        for sentence in concluded.answers:
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)
        console.print(f"report: {concluded.report}", soft_wrap=True)
    for one, why in failed.items():
        console.print(f"failed: {one}: {why}", markup=False, soft_wrap=True)
    if failed:
        console.print(f"resume with: attngraft study resume {study.folder}", soft_wrap=True)
    return INCOMPLETE if failed else COMPLETE


def _print_status(console: Console, study: Study) -> int:
    """Print what is finished and what it came to so far; the code says whether anything is missing."""
    from attngraft.study.reporting.words import headline

    results = study.results
    table = Table("arm", "seed", "state", title=f"{study.folder}, plan {results.setting.hash}")
    for run in results.runs:
        table.add_row(run.arm, str(run.seed), _state(study, run))
    console.print(table)
    for sentence in headline(results):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    return COMPLETE if len(results.finished) == len(results.runs) else INCOMPLETE


def _state(study: Study, run: RunResult) -> str:
    from attngraft.study.running.run import curve

    if run.value is not None:
        return f"{study.plan.metric} {run.value:.2f}"
    if run.error:
        return f"failed: {run.error}"
    epochs = len(curve(study.store.training(Run(study.fixed().arm(run.arm), run.seed))))
    return f"epoch {epochs}/{study.plan.train['epochs']}" if epochs else "missing"


def _print_estimate(console: Console, study: Study, workers: int | None) -> None:
    with console.status("") as status:
        found = study.forecast(workers, started=status.update)
    table = Table("arm", "recipe", "one run", title=f"{found.runs} runs, {found.workers} at once")
    for arm in found.fixed.arms:
        table.add_row(arm.name, Path(arm.model).name, _duration(found.seconds[arm.name]))
    console.print(table)
    for arm in found.fixed.arms:
        if arm.note:
            console.print(f"{arm.name}: {arm.note}", soft_wrap=True)
    most = " at most" if study.plan.max_seeds else ""
    console.print(
        f"about {_duration(found.seconds[''])}{most}, from timing training steps on this machine; "
        f"{found.bytes / 1e9:.1f} GB of {found.free / 1e9:.0f} GB free in {study.folder}. Nothing was run or written.",
        soft_wrap=True,
    )


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
