"""The committed pages of attention are those of today, and a stale one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import attention_page

ROOT = Path(__file__).parents[2]


def test_the_committed_pages_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    status = attention_page.main(["--check"])
    assert (status, capsys.readouterr().out) == (0, "")


def test_a_page_that_is_out_of_date_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert attention_page.main([], tmp_path) == 0
    assert attention_page.main(["--check"], tmp_path) == 0
    page = tmp_path / "docs/attention.md"
    page.write_text(page.read_text(encoding="utf-8") + "typed by hand\n", encoding="utf-8")
    capsys.readouterr()
    assert attention_page.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().out == "docs/attention.md is out of date: run python tools/attention_page.py\n"
    assert "typed by hand" in page.read_text(encoding="utf-8")
