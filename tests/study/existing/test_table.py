"""Tables of results: what is read, and one sentence for what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from attngraft._core.errors import DataError
from attngraft.study.existing.table import read_table, require_pairs


def table(tmp_path: Path, *rows: str, head: str = "arm,seed,AP") -> Path:
    file = tmp_path / "runs.csv"
    file.write_text("\n".join([head, *rows]) + "\n")
    return file


def test_fractions_become_points_and_points_stay(tmp_path: Path) -> None:
    assert read_table(table(tmp_path, "a,0,0.5", "b,0,0.25"))[0] == {"a": {0: 50.0}, "b": {0: 25.0}}
    assert read_table(table(tmp_path, "a,0,50", "b,0,25"))[0] == {"a": {0: 50.0}, "b": {0: 25.0}}
    assert read_table(table(tmp_path, "a,0,0.5", "b,0,25"), scale="points")[0] == {"a": {0: 0.5}, "b": {0: 25.0}}
    assert read_table(table(tmp_path, "a,0,-0.5", head="arm,seed,RMSE"), scale="points")[0] == {"a": {0: -0.5}}
    found, column = read_table(table(tmp_path, '"a, wide" , 3 , 41.5', head="\ufeffarm, seed, box mAP"))
    assert (found, column) == ({"a, wide": {3: 41.5}}, "box mAP")  # blanks around commas are no part


@pytest.mark.parametrize(
    ("rows", "head", "said"),
    [
        ((), "arm,seed,AP", "needs the columns arm, seed and a metric, and is empty"),
        (("a,0,1",), "model,seed,AP", "needs the columns arm, seed and a metric, and has model, seed, AP"),
        (("a,0,1,2",), "arm,seed,AP,AP50", "2 columns besides arm and seed; say which, as in: metric=AP"),
        (("a,0,0.5,0.1",), "arm,seed,AP, AP ", "has more than one column 'AP'; rename or leave out all but one"),
        (("a,0,1,0.5",), "arm,seed,seed,AP", "has more than one column 'seed'"),
        (("a,0,40", "a,0,41"), "arm,seed,AP", "line 3 has arm a at seed 0 a second time"),
        (("a,0,nan",), "arm,seed,AP", "line 2 needs a number up to 1e.06 for AP, got 'nan'; give a run that diverged"),
        (("a;0;39,1",), "arm;seed;AP", "has semicolons between its columns; save it with commas"),
        (("a\t0\t39.1",), "arm\tseed\tAP", "has tabs between its columns"),
        (("a,0,1e300",), "arm,seed,AP", "line 2 needs a number up to 1e.06 for AP, got '1e300'"),
        (("a,0,",), "arm,seed,AP", "line 2 needs a number up to 1e.06 for AP, got ''"),
        (("a,,40",), "arm,seed,AP", "line 2 needs an integer as the seed of a, got ''"),
        ((",1,40",), "arm,seed,AP", "line 2 names no arm"),
        (("a,0,39_1",), "arm,seed,AP", "line 2 needs a plain number for AP, such as 39.1, got '39_1'"),
        (('a,0,"39,1"',), "arm,seed,AP", "got '39,1'; write it with a point, and without a percent sign or a spread"),
        (("a,0,39.1%",), "arm,seed,AP", "line 2 needs a plain number for AP, such as 39.1, got '39.1%'"),
        (("a,0",), "arm,seed", "has no column besides arm and seed; add one with a number for each run"),
        (("a,1_0,40",), "arm,seed,AP", "line 2 needs an integer as the seed of a, got '1_0'"),
        (("a,1",), "arm,seed,AP", "another number of columns"),
        (
            ("a,0,0.4", "b,0,0.3"),
            "arm,seed,val/box_loss",
            "of 'val/box_loss', less is better, .* give the numbers a minus",
        ),
        (("a,0,0.4", "b,0,41"), "arm,seed,AP", "a as fractions and b as percent, it seems"),
        (
            ("a,0,0.391", "a,1,38.8", "b,0,0.396", "b,1,39"),
            "arm,seed,AP",
            "gives a at seed 0 as a fraction, 0.391, and a at seed 1 as percent, 38.8, it seems; correct the file, or "
            "say scale=points if 0.391 is percent too",
        ),
        (("a,0,39", "a,1,38", "b,0,40", "b,1,0.39"), "arm,seed,AP", "b at seed 1 as a fraction, 0.39, and b at seed 0"),
        (
            ("a,0,39", "a,1,38", "b,0,1.2", "b,1,0.39"),
            "arm,seed,AP",
            "b at seed 1 as a fraction, .* a at seed 0 as per",
        ),
        (("a,0,1", "a,1,98.5", "b,0,99", "b,1,97"), "arm,seed,accuracy", "a at seed 0 as a fraction, 1, and a at seed"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path: Path, rows: tuple[str, ...], head: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_table(table(tmp_path, *rows, head=head))


@pytest.mark.parametrize(
    "rows",
    [
        ("a,0,39", "a,1,0", "b,0,40", "b,1,39"),  # diverged
        ("a,0,39", "a,1,0.2", "b,0,40", "b,1,0.9"),  # did not learn: 20 and 90 are not like the arms' 39 and 40
        ("a,0,0.4", "a,1,1.3", "b,0,0.9", "b,1,1.1"),  # nobody learned
        ("a,0,0.8", "a,1,2.1", "b,0,3", "b,1,2"),  # little is learned
        ("a,0,0.4", "a,1,41", "b,0,-0.2", "b,1,40"),  # negative: no share of anything
        ("a,0,0.9", "a,1,90", "b,0,120", "b,1,80"),  # above 100: no share either
        ("a,0,-0.4", "a,1,-41", "b,0,-0.5", "b,1,-40"),  # losses or latencies
    ],
)
def test_small_numbers_beside_larger_ones_are_taken_as_they_are(tmp_path: Path, rows: tuple[str, ...]) -> None:
    found, _ = read_table(table(tmp_path, *rows))
    read = [f"{arm},{seed},{number:g}" for arm, runs in found.items() for seed, number in runs.items()]
    assert read == list(rows)


def test_a_small_number_that_looks_like_a_fraction_is_taken_with_its_scale(tmp_path: Path) -> None:
    """A run that did not learn, by chance at a hundredth of the others."""
    file = table(tmp_path, "a,0,39", "a,1,0.4", "b,0,40", "b,1,39")
    with pytest.raises(DataError, match=r"say scale=points if 0.4 is percent too"):
        read_table(file)
    assert read_table(file, scale="points")[0] == {"a": {0: 39.0, 1: 0.4}, "b": {0: 40.0, 1: 39.0}}


def test_a_metric_that_is_not_there_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'map'; did you mean mAP"):
        read_table(table(tmp_path, "a,0,1,2", head="arm,seed,mAP,loss"), "map")


def test_a_file_that_is_no_text_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_bytes(b"\xff\xfe\x00")
    for content in (b"\xff\xfe\x00", "arm,seed,精度\n基线,0,39\n".encode("gbk")):
        (tmp_path / "runs.csv").write_bytes(content)
        with pytest.raises(DataError, match="runs.csv is not written in UTF-8; save it so, in Excel as 'CSV UTF-8'"):
            read_table(tmp_path / "runs.csv")
    with pytest.raises(DataError, match="nowhere.csv cannot be read .No such file or directory.; check the path"):
        read_table(tmp_path / "nowhere.csv")


def test_row_numbers_without_a_name_are_no_metric(tmp_path: Path) -> None:
    """As `to_csv` of pandas writes them."""
    numbered = table(tmp_path, "0,a,0,39.0", "1,b,0,40.0", head=",arm,seed,AP")
    assert read_table(numbered) == ({"a": {0: 39.0}, "b": {0: 40.0}}, "AP")


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({"a": {0: 1}}, "one arm only, a"),
        ({"b": {0: 1}}, "no runs of the baseline 'a'"),
        ({"a": {0: 1}, "stock": {0: 1}}, "stock is what studies call their baseline, which is a here"),
        ({"a": {0: 1}, "b": {1: 1}}, "no seed in common"),
        ({"a": {0: 1, 3: 1}, "b": {0: 1}}, "b lacks the seeds 3 that a has"),
        ({"a": {0: 1}, "b": {0: 1, 3: 1}}, "a lacks the seeds 3 that b has"),
    ],
)
def test_runs_that_cannot_be_paired_say_why(arms: dict[str, dict[int, int]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        require_pairs(arms, "a", drop=False)
    if "lacks" in said:
        require_pairs(arms, "a", drop=True)


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("arm,seed,AP\n\na,0,1\n\n,1,2\n")
    with pytest.raises(DataError, match="line 5 names no arm"):
        read_table(file)
