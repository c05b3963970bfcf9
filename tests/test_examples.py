"""Every example in percent format runs, in a process and a folder of its own, and has its notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*.py"))}
SCRIPTS = [path for path, text in TEXTS.items() if text.startswith("# %%") and "sys.argv" not in text]
NEEDS = {"supervision_detections": "supervision"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs(script: Path, tmp_path: Path) -> None:
    if script.stem in NEEDS:
        pytest.importorskip(NEEDS[script.stem])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_there_is_a_notebook_for_each_example_with_its_code() -> None:
    made = sorted((ROOT / "examples/notebooks").glob("*.ipynb"))
    assert [path.stem for path in made] == [path.stem for path in SCRIPTS]
    for script, path in zip(SCRIPTS, made, strict=True):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = script.read_text(encoding="utf-8")
        for cell in cells:
            if cell["cell_type"] == "code":
                assert "".join(cell["source"]) in source
                assert cell["outputs"] == []
