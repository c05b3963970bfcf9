"""Progress of a command: a status line on a terminal, and the sentences that stay."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.text import Text

from attngraft._core.progress import Silent


class StatusLine(Silent):
    """Show the step that is under way on a line that the next one replaces; a pipe gets the sentences alone.

    Use it as a context manager, so that the line goes when the work is done.

    Args:
        console: Where to show it.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._status = console.status("")

    def __enter__(self) -> StatusLine:
        self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._status.stop()

    def started(self, what: str) -> None:
        """Show what is being done."""
        self._status.update(Text(what))  # a string would be markup

    def line(self, text: str) -> None:
        """Print a sentence above the line."""
        self.console.print(text, highlight=False, soft_wrap=True)
