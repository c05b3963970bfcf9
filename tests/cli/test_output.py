"""Tables where nobody watches: whole rows, and no blanks at their ends."""

from __future__ import annotations

import gc
import io
import sys

import pytest
from rich.table import Table

from attngraft.cli.output import Trimmed, console


def test_a_row_is_a_line_where_nobody_watches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("name", "about", box=None)
    table.add_row("a", "word " * 100)
    table.add_row("b", "short")
    console().print(table)
    lines = capsys.readouterr().out.splitlines()
    assert [len(line.split()) for line in lines] == [2, 101, 2]
    assert all(line == line.rstrip() for line in lines)
    console(stderr=True).print("x" * 300)
    assert capsys.readouterr().err == f"{'x' * 300}\n"


def test_brackets_of_a_path_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("runs/[old]/report.html")
    table = Table(box=None)
    table.add_row("[bold]a[/bold]", "mine.py:[x]")
    console().print(table)
    assert capsys.readouterr().out.split() == ["runs/[old]/report.html", "[bold]a[/bold]", "mine.py:[x]"]


def test_columns_that_are_asked_for_are_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    console().print("word " * 20)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 40
    assert console(least=60).width == 60


def test_trimmed_text_comes_from_the_stream_that_it_is_given() -> None:
    stream = io.StringIO()
    trimmed = Trimmed(stream)
    print("a  \n  b \n\nc ", end=" ", file=trimmed)
    assert stream.getvalue() == "a\n  b\n\nc"
    assert Trimmed(sys.__stdout__ or sys.stdout).encoding
    stream.close()
    del trimmed  # and is let go after it is closed: Python 3.13 prints what fails there
    gc.collect()
