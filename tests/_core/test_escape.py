"""Texts that a spreadsheet, a Markdown viewer and LaTeX would read as their own."""

from __future__ import annotations

import csv
import io

import pytest

from attngraft._core.escape import csv_cell, latex_text, markdown_text


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", " =1", "\r=1", "-", "=", "+x"]
)
def test_formulas_become_text(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [1, -2.5, None, True, "-0.5", "+1e-3", "-inf", "a=b", "mhsa@P5", "", "'quoted"])
def test_numbers_and_names_stay(value: object) -> None:
    assert csv_cell(value) is value


def test_a_cell_survives_a_csv_round_trip() -> None:
    text = io.StringIO()
    csv.writer(text).writerow([csv_cell('=HYPERLINK("x","y")\n'), 2])
    assert next(csv.reader(io.StringIO(text.getvalue()))) == ['\'=HYPERLINK("x","y")\n', "2"]


def test_markdown_has_no_markup_left() -> None:
    said = markdown_text("a|b\n# c <script>alert(1)</script> `d` *e* [f](g) \\ &")
    assert said == r"a\|b # c &lt;script&gt;alert(1)&lt;/script&gt; \`d\` \*e\* \[f\](g) \\ &amp;"
    assert "\n" not in said


def test_latex_spells_out_each_special_character_once() -> None:
    assert latex_text(r"\input{a}") == r"\textbackslash{}input\{a\}"
    assert latex_text("^_%$#&~") == r"\textasciicircum{}\_\%\$\#\&\textasciitilde{}"
    assert latex_text("× ∞ − –") == r"$\times$ $\infty$ $-$ --"
