"""The demonstration in miniature: the same four real trainings, on a few pictures for one epoch."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from attngraft.cli.demo import DemoError, run_demo


def test_makes_the_data_trains_four_models_and_draws_what_they_find(capsys: pytest.CaptureFixture[str]) -> None:
    run_demo(Path("demo"), device="cpu", workers=2, train=16, val=8, epochs=1)
    said = capsys.readouterr().out
    assert "131,650" in said
    assert said.count("no attention") >= 2
    assert said.count("with mhsa") >= 2
    with Image.open("demo/predictions.png") as sheet:
        assert sheet.width > 3 * 96 * 3
    assert len(list(Path("demo/runs").glob("*/weights/last.pt"))) == 4


def test_a_folder_that_exists_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("demo").mkdir()
    Path("demo/mine.txt").write_text("precious")
    with pytest.raises(DemoError, match="ended with code 1; its output is in"):
        run_demo(Path("demo"), device="nonsense", workers=2, train=8, val=8, epochs=1)
    assert [path.name for path in Path("demo").iterdir()] == ["mine.txt"]
    assert Path("demo-2").is_dir()
