"""The bar and the lines of a training, as a terminal shows them."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from tests.fit.networks import entered
from attngraft.cli import main
with entered(): main()
"""


def on_a_terminal(words: str) -> str:
    """Run the command on a terminal of its own and return what was written to it."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    command = [sys.executable, "-c", SCRIPT, *words.split()]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                written += os.read(ours, 65536)
            except OSError:  # the terminal is closed
                break
        assert process.wait(60) == 0, written.decode()
    os.close(ours)
    return written.decode()


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows in the end."""
    lines, row, column = [""], 0, 0
    for found in re.finditer(r"\x1b\[([?;\d]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)", written):
        number, code, control, text = found.groups()
        if code == "A":
            row = max(0, row - int(number or 1))
        elif code == "K":
            lines[row] = ""
        elif control == "\r":
            column = 0
        elif control == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif text:
            lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
            column += len(text)
    return [line.rstrip() for line in lines if line.strip()]


def test_the_lines_stand_alone_and_nothing_is_left_of_the_bar(colours: Path) -> None:
    written = on_a_terminal(
        f"fit model=tiny_classifier data={colours} epochs=2 batch=2 imgsz=32 workers=0 accelerator=cpu out=run"
    )
    assert "epoch 1/2 \x1b" in written  # of the bar
    assert "Epoch" not in written
    start, first, second, end = screen(written)
    assert start.startswith("training tiny_classifier on ")
    assert re.fullmatch(r"epoch 1/2  train_loss .* s", first)
    assert re.fullmatch(r"epoch 2/2  train_loss .* s", second)
    assert end.startswith("tiny_classifier: ")
