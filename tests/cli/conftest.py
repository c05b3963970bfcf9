"""The command in this process, and a tiny data set that a test may break."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import ultralytics.utils  # noqa: F401  (its logger keeps the stdout of its first import, which must outlive a test)
import yaml
from click.testing import CliRunner, Result

from attngraft.cli import main


@pytest.fixture
def run() -> Callable[[str], Result]:
    """Run the command in this process."""
    return lambda line: CliRunner().invoke(main, line.split())


@pytest.fixture
def data(tiny_data: Callable[[str], str]) -> Path:
    """A copy of the tiny detection set that a test may break."""
    home = Path(tiny_data("detect")).parent
    shutil.copytree(home, "data", ignore=shutil.ignore_patterns("*.cache"))
    Path("data/data.yaml").write_text(
        yaml.safe_dump({"train": "images/train", "val": "images/val", "names": {0: "blue", 1: "red"}})
    )
    return Path("data/data.yaml").resolve()
