"""TREC run files: what is written is read, by ir_measures too, and what is no run is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from attngraft._core.errors import DataError
from attngraft.retrieve.evaluation.runs import read_run, write_run

FOUND = {"q1": ["d3", "d1", "d2"], "q2": ["d9"]}


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_run(tmp_path / "a.run", FOUND, "mrag")
    assert read_run(tmp_path / "a.run") == FOUND
    assert (tmp_path / "a.run").read_text().splitlines()[1] == "q1 Q0 d1 2 2 mrag"


def test_ir_measures_reads_the_same_order(tmp_path: Path) -> None:
    ir_measures = pytest.importorskip("ir_measures")
    write_run(tmp_path / "a.run", FOUND, "mrag")
    theirs = list(ir_measures.read_trec_run(str(tmp_path / "a.run")))
    assert [(one.query_id, one.doc_id) for one in sorted(theirs, key=lambda one: (one.query_id, -one.score))] == [
        (query, name) for query, names in FOUND.items() for name in names
    ]


def test_scores_decide_and_ranks_break_ties(tmp_path: Path) -> None:
    file = tmp_path / "other.run"
    file.write_text("q Q0 low 1 0.1 x\nq Q0 second 3 0.5 x\n\nq Q0 first 2 0.5 x\nq Q0 best 9 1e3 x\n")
    assert read_run(file) == {"q": ["best", "first", "second", "low"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("q Q0 d 1 high x\n", "line 1: expected 'query Q0 document rank score tag', got 'q Q0 d 1 high x'"),
        ("q Q0 d 1 1 x\nq d 1\n", "line 2: expected"),
        ("q Q0 d 1 nan x\n", "line 1"),
        ("q Q0 d 1 inf x\n", "line 1"),
        ("q Q0 d 1 2 x\nq Q0 d 2 1 x\n", "names document d twice for query q"),
        ("\n", "has no line"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.run"
    file.write_text(text)
    with pytest.raises(DataError, match=said):
        read_run(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_run(tmp_path / "absent.run")


@pytest.mark.parametrize("found", [{"q 1": ["d"]}, {"q": ["d\t1"]}, {"q": [""]}])
def test_white_space_cannot_be_written(tmp_path: Path, found: dict[str, list[str]]) -> None:
    with pytest.raises(DataError, match="white space"):
        write_run(tmp_path / "a.run", found, "tag")
    assert not (tmp_path / "a.run").exists()
