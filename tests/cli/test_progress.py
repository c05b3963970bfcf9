"""A status line on a terminal; a pipe gets the sentences alone."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from attngraft.cli.progress import StatusLine


@pytest.mark.parametrize("terminal", [True, False])
def test_the_step_is_shown_on_a_terminal_only(terminal: bool) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=40)
    with StatusLine(console) as progress:
        progress.started("timing yolo11n in runs/[old]")
        progress.finished("timing yolo11n", 1.0)
        progress.line("[2] images of a name that is much longer than the line were left out")
    assert ("timing yolo11n in runs/[old]" in stream.getvalue()) is terminal
    assert "[2] images of a name that is much longer than the line were left out\n" in stream.getvalue()
