"""The demonstration in miniature: the same study with real trainings, on a few pictures for one epoch."""

from __future__ import annotations

from pathlib import Path

import pytest

from attngraft.cli.demo import DemoError, run_demo


def test_makes_the_data_studies_it_and_names_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    report = run_demo(Path("demo"), device="cpu", parallel=2, train=16, val=8, epochs=1, seeds=1)
    said = capsys.readouterr().out
    assert report == Path("demo/study/report.html").resolve()
    assert said.rstrip().endswith(f"Open the report: {report}")
    assert "mhsa(init=paper)@P3 is undecided" in said
    assert {"stock", "mhsa(init=paper)@P3"} == set(_words(report, "arm"))  # no convolution: the arm is not better


def test_a_folder_that_exists_is_left_alone() -> None:
    Path("demo").mkdir()
    Path("demo/mine.txt").write_text("precious")
    with pytest.raises(DemoError, match=r"failed; its output is in .*\.log"):
        run_demo(Path("demo"), device="nonsense", parallel=2, train=8, val=8, epochs=1, seeds=1)
    assert [path.name for path in Path("demo").iterdir()] == ["mine.txt"]
    assert Path("demo-2").is_dir()


def _words(report: Path, key: str) -> list[str]:
    import json

    lines = (report.parent / "records.jsonl").read_text().splitlines()
    return [json.loads(line)[key] for line in lines]
