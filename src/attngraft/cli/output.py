"""Where commands write for people: as wide as their terminal, and in whole lines where a file or a pipe reads."""

from __future__ import annotations

import os

from rich.console import Console

UNWATCHED = 2000
"""Columns where nobody watches: no row of a table is broken."""


def console(*, stderr: bool = False, least: int = 0) -> Console:
    """Return where to print.

    Args:
        stderr: Whether to print there instead of to stdout.
        least: Columns that a table needs to show its figures whole, where a terminal has fewer.
    """
    made = Console(stderr=stderr)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = UNWATCHED
    made.width = max(least, made.width)
    return made
