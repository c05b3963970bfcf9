"""Write docs/cli.md and docs/errors.md from the command line and the errors.

Run it after a change to one of them. With --check nothing is written, and the exit status is 1 if a page is stale.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from attngraft._core import errors
from attngraft.cli import main as command

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 88
MADE = "Written by `python tools/reference_pages.py` from the source: do not edit.\n\n"


def commands(group: click.Command, context: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Yield each command's full name and help, groups before what they hold."""
    here = click.Context(
        group, info_name=group.name if context else "attngraft", parent=context, max_content_width=WIDTH
    )
    here.terminal_width = WIDTH
    yield here.command_path, group.get_help(here)
    if isinstance(group, click.Group):
        for name in group.list_commands(here):
            found = group.get_command(here, name)
            if found is not None and not found.hidden:
                yield from commands(found, here)


def without_host(text: str) -> str:
    """Return a help without the options of Ultralytics, which are those of the release that is installed."""
    kept, _, rest = text.partition("\n\nGeneral (Ultralytics):")
    return kept + ("\n\n... and all options of Ultralytics, in groups, with their defaults" if rest else "")


def cli_page() -> str:
    """Return the page of commands."""
    text = "# Commands\n\n" + MADE
    text += "Every command says the same with `--help`. Words of the form `KEY=VALUE` may stand in any order.\n"
    for name, shown in commands(command):
        text += f"\n{'#' * min(4, 1 + len(name.split()))} {name}\n\n```text\n{without_host(shown).rstrip()}\n```\n"
    return text


def errors_page() -> str:
    """Return the page of errors."""
    text = "# Errors\n\n" + MADE
    text += (
        "Every error that attngraft raises on purpose is an `AttngraftError` and a built-in that you would expect, so\n"
        "`except ValueError` keeps its meaning. A message says who, what was expected, what came and what to do. On\n"
        "the command line it is one sentence, and `attngraft --debug COMMAND` shows the traceback. Texts of errors of\n"
        "other programs: [Troubleshooting](troubleshooting.md).\n\n| error | also a | when |\n|---|---|---|\n"
    )
    found = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__]
    for error in sorted(found, key=lambda value: inspect.getsourcelines(value)[1]):
        parents = [base.__name__ for base in error.__mro__[1:] if base.__module__ == "builtins"]
        line = (inspect.getdoc(error) or "").splitlines()[0].rstrip(".").replace("``", "`")
        text += f"| `{error.__name__}` | `{parents[0]}` | {line} |\n"
    return text


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    stale = []
    for name, text in (("cli.md", cli_page()), ("errors.md", errors_page())):
        path = ROOT / "docs" / name
        if asked.check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(f"docs/{name}")
        elif not asked.check:
            path.write_text(text, encoding="utf-8")
    if stale:
        raise SystemExit(f"out of date: {', '.join(stale)}; run python tools/reference_pages.py")


if __name__ == "__main__":
    main()
