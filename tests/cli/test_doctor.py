"""`attngraft doctor`: rows, JSON, exit codes and mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import attngraft
import attngraft.doctor
from attngraft._core.errors import OptionError, UnknownNameError
from attngraft.cli import main
from tests.doctor.detector.kit import MICRO, broken_mechanisms


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with broken_mechanisms(tmp_path_factory.mktemp("broken")):
        yield


class TestCommand:
    def run(self, *words: str) -> object:
        return CliRunner().invoke(main, ["doctor", *words])

    def test_rows_and_the_exit_code(self, broken: None) -> None:
        result = self.run(f"model={MICRO}+fixed_table@P3")
        assert result.exit_code == 1
        assert "fail  opens" in result.output
        assert "needs 'opens', which failed" in result.output

    def test_json(self, broken: None) -> None:
        result = self.run(f"model={MICRO}+fixed_table@P3", "--json")
        assert result.exit_code == 1
        stored = json.loads(result.output)
        assert (stored["schema"], stored["healthy"]) == ("attngraft.doctor/1", False)
        assert stored["findings"][0]["name"] == "opens"

    def test_json_is_alone_on_stdout(self, tmp_path: Path) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        ran = subprocess.run(
            [sys.executable, "-m", "attngraft", "doctor", "eca", "kernel_size=4", "--json"],
            env={**os.environ, "YOLO_CONFIG_DIR": str(tmp_path / "fresh")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 1
        jsonschema.validate(json.loads(ran.stdout), attngraft.doctor.schema())

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["model=x.yaml", "imgz=3"], "no key 'imgz'; did you mean imgsz"),
            (["eca", "imgz=3"], "no key 'imgz'; did you mean imgsz"),
            (["eca", "kernel=3"], "no key 'kernel'; did you mean kernel_size"),
            (["eca", "se"], "say what to examine"),
            ([f"model={MICRO}+ecaa@P3"], "did you mean eca"),
            (["ecca"], "no mechanism or model is called 'ecca'; did you mean eca"),
            (["FSA"], "no mechanism or model is called 'FSA'; FSA (of SF-UNet) is left out on purpose"),
            (["model=yolo11nn.yaml"], "the model 'yolo11nn.yaml' does not exist; check the path"),
            (["nowhere.yaml"], "the model 'nowhere.yaml' does not exist; check the path"),
            (["model=nowhere.yaml+eca@P3"], "the model 'nowhere.yaml' does not exist; check the path"),
            (["nowhere.py:Mine"], "nowhere.py; check the path"),
            (["eca", "batch=-1"], "needs batch to be a positive integer, got -1"),
            (["eca", "imgsz=abc"], "needs imgsz to be a positive integer, got 'abc'"),
            (["eca", "channels=abc"], "needs channels to be a positive integer, got 'abc'"),
            ([MICRO, "imgsz=64.5"], "needs imgsz to be a positive integer, got 64.5"),
        ],
    )
    def test_mistakes_are_one_sentence(self, words: list[str], message: str) -> None:
        result = self.run(*words)
        assert result.exit_code in (1, 2)
        assert message in result.output
        assert "Traceback" not in result.output
        assert "skip" not in result.output, "nothing is examined"

    def test_a_mechanism_takes_its_own_options(self) -> None:
        result = self.run("eca", "kernel_size=4")
        assert result.exit_code == 1
        assert "needs an odd kernel_size" in " ".join(result.output.split())
        assert "…" not in result.output, "names of rows are whole"
        with pytest.raises(UnknownNameError, match=r"option of ECA is called 'kernel'; did you mean kernel_size\?"):
            attngraft.doctor("eca", options={"kernel": 3})
        with pytest.raises(OptionError, match="in a recipe they stand in it"):
            attngraft.doctor(MICRO, options={"kernel_size": 3})
