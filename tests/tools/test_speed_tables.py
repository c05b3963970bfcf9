"""The speed tables are those of the stored results."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("speed_tables", ROOT / "tools" / "speed_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_up_to_date(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--check"]) == 0, capsys.readouterr().out


def test_a_drift_fails_the_check_and_writing_fixes_it(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "speed.md"
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    path.write_text(page.replace("| module |", "| kind |"), encoding="utf-8")
    monkeypatch.setattr(script, "PAGES", {path: {}})
    assert script.main(["--check"]) == 1
    assert script.main([]) == 0
    assert path.read_text(encoding="utf-8") == page


def test_a_path_without_markers_is_refused(script: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no place for a table: write the lines <!-- speed: begin --> and"):
        script.write("# A\n", "speed")
