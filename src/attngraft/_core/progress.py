"""How long work says what it is doing: one protocol, for every function that takes ``progress=``.

A function of the library is silent unless it is given one::

    def measure_all(models: Sequence[str], *, progress: Progress = SILENT) -> Report:
        for name in models:
            progress.started(f"timing {name}")  # a status line shows it until the next step starts
            timing = measure_one(name)
            progress.finished(name, timing)     # a result that may be shown before everything is done
        progress.line("2 images were left out") # a sentence that stays
        return report

Who shows it derives from `Silent` and overrides what it wants; `Lines` writes what stays, and `attngraft.cli.progress`
is the commands' own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """What long work reports to; the three calls return nothing and may be ignored."""

    def started(self, what: str) -> None:
        """Take what is being done from now on, in a few words such as "timing yolo11n"."""

    def finished(self, what: str, result: object = None) -> None:
        """Take what a step gave, under the words that it was started with."""

    def line(self, text: str) -> None:
        """Take a sentence that a user should still see when everything is done."""


class Silent:
    """Progress that shows nothing; derive from it to show some of it."""

    def started(self, what: str) -> None:
        """Ignore a step that starts."""

    def finished(self, what: str, result: object = None) -> None:
        """Ignore the result of a step."""

    def line(self, text: str) -> None:
        """Ignore a sentence."""


class Lines(Silent):
    """Progress that writes the sentences that stay, and nothing else.

    Args:
        write: Takes a line without its end.

    Example:
        >>> progress = Lines(print)
        >>> progress.started("counting")
        >>> progress.line("3 images were left out")
        3 images were left out
    """

    def __init__(self, write: Callable[[str], object] = print) -> None:
        self.write = write

    def line(self, text: str) -> None:
        """Write a sentence."""
        self.write(text)


SILENT: Progress = Silent()
"""The default of ``progress=``."""

PRINTED: Progress = Lines()
"""The default where the lines are what a caller waits for: predictions, and the epochs of a training run."""


def tell(progress: Progress, text: str) -> None:
    """Say a sentence that must not be lost: as a warning where nobody listens.

    Args:
        progress: Whom to tell.
        text: The sentence.
    """
    progress.line(text)
    if progress is SILENT:
        warnings.warn(text, stacklevel=3)
