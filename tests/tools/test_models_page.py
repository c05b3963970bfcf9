"""The page of models names every model, with the figures of today; `make check` counts all of them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from attngraft.models import names, record

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("models_page", ROOT / "tools" / "models_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_model_has_a_row_and_every_row_a_model(script: ModuleType) -> None:
    for page in script.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert sorted(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == names()


@pytest.mark.parametrize("name", ["botnet50", "maskrcnn_botnet50", "mobilenetv3_small"])
def test_rows_are_those_of_today(name: str, script: ModuleType) -> None:
    for page in script.PAGES:
        assert script.row(record(name)) in (ROOT / page).read_text(encoding="utf-8").splitlines()


def test_a_page_that_is_out_of_date_is_told(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "models", lambda: {"resnet50": record("resnet50")})
    (tmp_path / "docs").mkdir()
    assert script.main(["--check"], tmp_path) == 1
    assert "out of date: run python tools/models_page.py" in capsys.readouterr().out
    assert script.main([], tmp_path) == 0
    assert script.main(["--check"], tmp_path) == 0
