"""The commands that a study prints: a shell takes them as they stand."""

from __future__ import annotations

import shlex
from pathlib import Path

from click.testing import CliRunner

from attngraft.cli.main import main


def test_the_command_for_other_machines_quotes_the_folder(data: Path) -> None:
    keys = ["base=yolo11n.yaml", "arms=se@P5", "epochs=1", "imgsz=32", "seeds=3", "controls=stock"]
    result = CliRunner().invoke(main, ["study", "prepare", f"data={data}", *keys, "folder=a b'c"])
    assert result.exit_code == 0, result.output
    command = result.stdout.strip().splitlines()[-1].partition("on: ")[2]
    assert shlex.split(command) == ["attngraft", "study", "work", "a b'c", "--run", "K"]
