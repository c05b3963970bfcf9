"""Groups of commands: one way to end for every error, and verbs of which one need not be said."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attngraft._core import outlets
from attngraft._core.errors import AttngraftError, FitError, OptionError, PlanError, RecipeError, UnknownNameError
from attngraft._core.extras import missing_extra
from attngraft._core.shortage import shortage

FAILURE, USAGE = 1, 2
MISUSES = (FitError, OptionError, RecipeError, PlanError, UnknownNameError, SyntaxError)
"""Errors that another command line would not have."""
PLUGIN: dict[str, Any] = {
    "multiple": True,
    "metavar": "FILE.py|MODULE",
    "help": "A file or installed module with mechanisms of your own; repeatable, before or after the command.",
}

if TYPE_CHECKING:
    _Text = click.ParamType[str]
else:
    _Text = click.ParamType  # which only newer releases of click take apart


def announce(_: click.Context, __: click.Parameter, plugins: tuple[str, ...]) -> None:
    """Load the user's plugins; a callback of ``--plugin``."""
    from attngraft._core.plugins import announce as load

    for plugin in plugins:
        load(plugin)


class WithPlugins(click.Group):
    """A group whose commands all take ``--plugin``, and keep the lines of their examples apart."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command; the mark that keeps lines apart may stand in a raw docstring."""
        if not isinstance(cmd, Verbs):
            cmd.params.append(click.Option(["--plugin"], callback=announce, expose_value=False, **PLUGIN))
        cmd.help = (cmd.help or "").replace("\\b\n", "\b\n")
        cmd.short_help = re.split(r"[:.](?:\s|$)", cmd.help, maxsplit=1)[0]
        super().add_command(cmd, name)


class Verbs(WithPlugins):
    """A group whose first verb need not be said: its words are told from verbs by their form.

    ``attngraft study plan.yaml`` is ``attngraft study run plan.yaml``; options may stand before a verb too.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the verb first, the one that need not be said if there is none."""
        if args[:1] not in (["-h"], ["--help"]):
            at = self._verb_at(args)
            args = [next(iter(self.commands)), *args] if at is None else [args[at], *args[:at], *args[at + 1 :]]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the verbs in the order in which they are used."""
        return list(self.commands)

    def _verb_at(self, args: Sequence[str]) -> int | None:
        """Return where the first word that is no option stands, if it is a verb."""
        takes_value = {
            name
            for command in self.commands.values()
            for option in command.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        }
        for at, word in enumerate(args):
            is_value = at > 0 and args[at - 1] in takes_value
            if not word.startswith("-") and not is_value:
                return at if word in self.commands else None
        return None


class Once(logging.Filter):
    """Let a notice of ours through once: Ultralytics builds a model twice for one training run."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line is to be shown."""
        line = record.getMessage()
        known, ours = line in self._said, line.startswith("attngraft: ")
        self._said |= {line} if ours else set()
        return not (ours and known)


@contextmanager
def said_once() -> Iterator[None]:
    """Show each notice of ours once while a command runs."""
    logger, once = logging.getLogger("ultralytics"), Once()
    logger.addFilter(once)
    try:
        yield
    finally:
        logger.removeFilter(once)


def _is_somewhere() -> bool:
    try:
        return bool(Path.cwd())
    except FileNotFoundError:
        return False


class Commands(WithPlugins):
    """The group of all commands, with one way to end for every error."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command line; what becomes of its output does not end it."""
        outlets.make_lenient()
        if not _is_somewhere():  # PyTorch ends the process where it is loaded from there
            click.echo("attngraft: the working folder is gone; change to one that exists", err=True)
            raise SystemExit(FAILURE)
        try:
            return super().main(*args, **extra)
        except SystemExit as ending:
            failure = outlets.failure()
            if failure is not None and not ending.code:
                click.echo(f"attngraft: the output could not be written: {failure.strerror}", err=True)
                raise SystemExit(FAILURE) from None
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn what it raises into one sentence and an exit status."""
        try:
            with said_once():
                return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except KeyboardInterrupt as stopped:
            click.echo(f"attngraft: {stopped if stopped.args else 'stopped'}", err=True)
            sys.exit(FAILURE)
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"attngraft: {_sentence(error)}", err=True)
            sys.exit(USAGE if isinstance(error, MISUSES) else FAILURE)

    def _main_shell_completion(self, ctx_args: Any, prog_name: str, complete_var: str | None = None) -> None:
        """Answer a shell that completes a line, with scripts of our own for bash and zsh."""
        if any(name.endswith("_COMPLETE") for name in os.environ):
            import attngraft.cli.shells  # noqa: F401 (registers them)
        super()._main_shell_completion(ctx_args, prog_name, complete_var)


class Words(_Text):
    """Words that a command reads by itself, completed by what it takes.

    Args:
        command: How `attngraft.cli.completion` calls what the words are for.
    """

    name = "words"

    def __init__(self, command: str) -> None:
        self.command = command

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        """Return what may stand where the cursor is."""
        from attngraft.cli.completion import complete

        given = ctx.params.get(param.name or "") or ()
        verbs = ctx.parent.command.commands if ctx.parent and isinstance(ctx.parent.command, Verbs) else {}
        return complete(self.command, incomplete, (given,) if isinstance(given, str) else given, list(verbs))


def words(command: str, metavar: str, *, required: bool = True) -> Callable[[Any], Any]:
    """Give a command an argument of any number of words.

    Args:
        command: How `attngraft.cli.completion` calls what the words are for.
        metavar: How the help shows them.
        required: Whether there must be one.
    """
    return click.argument("words", nargs=-1, metavar=metavar, required=required, type=Words(command))


def output(about: str, default: str | None = None) -> Callable[[Any], Any]:
    """Give a command the option that names its output; ``output=PATH`` says the same.

    Args:
        about: What is written there.
        default: Where it is written if nothing is said, as the help shows it.
    """
    shown = f"{about}  [default: {default}]" if default else about
    return click.option("-o", "--output", "--out", "output", type=click.Path(path_type=Path), help=shown)


def _sentence(error: Exception) -> str:
    """Say an error in as few lines as it has meaning."""
    error = missing_extra(error) or error
    text = str(error).strip() or type(error).__name__
    if isinstance(error, RecipeError):
        return text  # with the caret under the character
    if not isinstance(error, AttngraftError) and (short := shortage(error)) is not None:
        return f"{error.filename}: {short}" if isinstance(error, OSError) and error.filename else short
    if isinstance(error, OSError) and error.filename:
        text = f"{error.filename}: {error.strerror}"
    plain = " ".join(text.replace("ERROR ❌️", "").replace("❌", "").split())
    known = type(error).__module__.startswith("attngraft") or isinstance(error, (OSError, SyntaxError))
    return plain if known else f"{plain} ({type(error).__name__}; --debug before the command shows the traceback)"
