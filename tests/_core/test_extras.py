"""Packages of our extras, missing: the sentence that names the extra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from attngraft._core.extras import missing_extra


def test_the_command_line_names_the_extra_of_any_missing_package(tmp_path: Path) -> None:
    """A real process in which the packages cannot be imported, as where no extra is installed."""
    hidden = "jinja2", "matplotlib", "safetensors"
    script = (
        "import sys, importlib.abc\n"
        "class Hidden(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {hidden}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from attngraft.cli import main\n"
        "main(sys.argv[1:], prog_name='attngraft')\n"
    )
    (tmp_path / "runs.csv").write_text("arm,seed,AP\na,0,1\na,1,2\nb,0,2\nb,1,3\n")
    for words, extra in (("study judge runs.csv baseline=a", "study"), ("diff a.pt base=b.pt", "share")):
        done = subprocess.run(
            [sys.executable, "-c", script, *words.split()], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert f"pip install 'attngraft[{extra}]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_package_that_no_extra_brings_stays_what_it_is() -> None:
    assert missing_extra(ModuleNotFoundError("No module named 'no_such'", name="no_such")) is None
    assert missing_extra(ImportError("jinja2", name="jinja2")) is None
    assert "attngraft[study]" in str(missing_extra(ModuleNotFoundError("x", name="matplotlib.pyplot")))
