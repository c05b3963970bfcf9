"""The generated docs are those that the registry of today gives."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "catalogue.py"
ZOO = SCRIPT.parents[1] / "src" / "attngraft" / "attention"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("catalogue", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def house(tmp_path: Path, script: ModuleType) -> Path:
    """Return the root of a house whose generated files are up to date."""
    (tmp_path / "docs").mkdir()
    assert script.main([], tmp_path) == 0
    return tmp_path


def test_the_catalogue_is_up_to_date(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--check"]) == 0, capsys.readouterr().out


def test_what_was_just_written_passes_the_check(script: ModuleType, house: Path) -> None:
    assert script.main(["--check"], house) == 0


@pytest.mark.parametrize("name", ["docs/catalogue.md", "docs/catalogue.zh-CN.md"])
def test_a_drift_fails_the_check_and_is_left_alone(
    name: str, script: ModuleType, house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = house / name
    drifted = file.read_text(encoding="utf-8").replace("`ECA` |", "`ECCA` |")
    file.write_text(drifted, encoding="utf-8")
    capsys.readouterr()
    assert script.main(["--check"], house) == 1
    assert capsys.readouterr().out == f"{name} is out of date: run python tools/catalogue.py\n"
    assert file.read_text(encoding="utf-8") == drifted


def test_every_mechanism_and_option_is_there(script: ModuleType, house: Path) -> None:
    page = (house / "docs" / "catalogue.md").read_text(encoding="utf-8")
    for record in script.records():
        _, _, section = page.partition(f"\n## {record.name}\n")
        assert record.differs.replace("``", "`") in section
        assert all(f"- `{option}=" in section for option in record.options)
    assert len(script.records()) == page.count("\n## ") == len(list(ZOO.glob("[a-z]*.py")))


def test_the_chinese_table_has_the_same_figures_in_chinese(script: ModuleType) -> None:
    english, chinese = script.overview(), script.overview(script.CHINESE)
    assert chinese.count("\n") == english.count("\n")
    assert "| [`eca`](#eca) | `ECA` | 2020 | 通道门控 | 门控 | 5 | 1,280 | N |" in chinese
    families = {record.family for record in script.records()}
    assert families <= set(script.CHINESE)
