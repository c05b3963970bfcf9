"""Where commands write for people: as wide as their terminal, and in whole lines where a file or a pipe reads."""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO, cast

from rich.console import Console

UNWATCHED = 2000
"""Columns where nobody watches: no row of a table is broken."""


def console(*, stderr: bool = False, least: int = 0) -> Console:
    """Return where to print; brackets are what they are, as in the path ``runs/[old]``, and no markup.

    Args:
        stderr: Whether to print there instead of to stdout.
        least: Columns that a table needs to show its figures whole, where a terminal has fewer.
    """
    made = Console(stderr=stderr, markup=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        trimmed = Trimmed(sys.stderr if stderr else sys.stdout)
        made = Console(file=cast(TextIO, trimmed), width=UNWATCHED, markup=False)
    made.width = max(least, made.width)
    return made


class Trimmed:
    """A stream without the blanks with which the rows of a table are filled up.

    It is no ``io.TextIOBase``, which closes itself as it is let go and would flush a stream that may be closed by then.

    Args:
        stream: Where the text goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:
        """Return what the stream encodes to."""
        return self.stream.encoding or "utf-8"

    def write(self, text: str, /) -> int:
        """Write whole lines, each without the blanks at its end."""
        self.stream.write(re.sub(r"[ ]+$", "", text, flags=re.MULTILINE))
        return len(text)

    def flush(self) -> None:
        """Let the stream go on."""
        self.stream.flush()
