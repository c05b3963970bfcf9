"""``attngraft retrieve eval``: from an index and a benchmark to a table, a page, results and run files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attngraft._core.errors import OptionError
from attngraft._core.files import require_writable
from attngraft.cli import pairs
from attngraft.cli.output import console as new_console
from attngraft.cli.progress import StatusLine
from attngraft.cli.retrieve_keys import EVAL_KEYS

if TYPE_CHECKING:
    from rich.table import Table

    from attngraft.retrieve.evaluation import Evaluation, Results

LISTS = ("rows", "runs", "measures")


def run_eval(words: Sequence[str], output: Path | None = None) -> Path:
    """Evaluate what the words name, print the table, and write.

    Args:
        words: The index, and ``key=value``.
        output: A ``.html`` or ``.json`` file, or a folder.

    Returns:
        What was written.

    Raises:
        UsageError: If the words make no sense.
    """
    named, options = pairs.read(words)
    target = Path(pairs.take(options, "retrieve eval", "output", "out", given=output) or "report.html")
    pairs.require_known("retrieve eval", options, tuple(EVAL_KEYS))
    if len(named) != 1 or "beir" not in options:
        raise click.UsageError(
            "say which index and which benchmark, as in: attngraft retrieve eval my.index beir=FOLDER"
        )
    if target.suffix.lower() not in (".html", ".json", ""):
        raise OptionError(f"-o takes a page (.html), results (.json) or a folder, got {target.name}")
    require_writable(target)
    asked = {key: value for key, value in options.items() if value is not None}
    asked |= {key: pairs.several(asked[key]) for key in LISTS if key in asked}
    screen = new_console()
    with StatusLine(new_console(stderr=True)) as progress:
        done = _evaluated(named[0], asked, progress)
        progress.started(f"writing {target.name}")
        written = _write(done, target)
    screen.print(_table(done.results))
    for line in _differences(done.results):
        screen.print(line, highlight=False, soft_wrap=True)
    click.echo(f"attngraft: {written} written")
    return written


def _evaluated(folder: str, asked: dict[str, Any], progress: StatusLine) -> Evaluation:
    from attngraft.retrieve import Index, evaluate
    from attngraft.retrieve.evaluation import read_benchmark

    benchmark = read_benchmark(str(asked.pop("beir")), str(asked.pop("split", "test")))
    index = Index.open(folder, model=asked.pop("model", None))
    return evaluate(index, beir=benchmark, progress=progress, **asked)


def _write(done: Evaluation, target: Path) -> Path:
    if target.suffix.lower() == ".html":
        return done.report(target)
    if target.suffix.lower() == ".json":
        return done.save_results(target)
    home = done.save(target)
    done.report(home / "report.html")
    return home


def _table(results: Results) -> Table:
    """Return the share of documents by bands of aspects, and of categories over all queries."""
    from rich.table import Table

    bands = [group for group in results.groups if group.is_band]
    table = Table(box=None, title=f"documents among the first {results.setting.n}", title_justify="left")
    table.add_column("row")
    for group in bands:
        said = "all" if group.name == "all" else f"{group.name} aspect{'' if group.name == '1' else 's'}"
        table.add_column(said, justify="right")
    if results.setting.categories:
        table.add_column("categories", justify="right")
    further = list(results.rows[-1].further)
    for name in further:
        table.add_column(name, justify="right")
    for row in results.rows:
        category = row.on("all").category
        cells = [f"{row.on(group.name).success.mean:.3f}" for group in bands]
        cells += [] if category is None else [f"{category.mean:.3f}"]
        cells += [f"{row.further[name].mean:.3f}" if name in row.further else "" for name in further]
        table.add_row(row.name, *cells)
    return table


def _differences(results: Results) -> list[str]:
    """Say the differences over all queries."""
    return [
        f"{one.row} - {one.other}: {one.success.mean:+.3f}, 95 % interval {one.success.low:+.3f} to "
        f"{one.success.high:+.3f}"
        for one in results.differences
        if one.group == "all"
    ]
