"""``attngraft probe`` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from attngraft.cli.main import main


def command(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["probe", *words])
    return done.exit_code, done.output


def test_a_tiny_probe_end_to_end(tmp_path: Path) -> None:
    words = ["se", "probes=reach", "seeds=1", "controls=0", "epochs=1", "images=16", "parallel=1", "-o", str(tmp_path)]
    code, said = command(*words)
    assert code == 0
    assert "[2/2] se on reach, seed 0: accuracy" in said
    assert "se learned reach at 0 of 1 seeds (0–98 %)" in said
    assert (tmp_path / "report.md").is_file()
    assert (tmp_path / "figure.png").is_file()
    assert json.loads((tmp_path / "report.json").read_text())["runs"] == 2
    code, said = command(*words)
    assert code == 0
    assert "2 runs, 2 of them finished before" in said
    (tmp_path / "report.md").unlink()
    code, said = command("-o", str(tmp_path))
    assert code == 0
    assert "finished before" not in said
    assert (tmp_path / "report.md").is_file()


def test_words_that_make_no_sense_end_with_two() -> None:
    assert command() == (2, command()[1])
    assert "say what to probe, as in: attngraft probe mhsa ema, or attngraft probe --all" in command()[1]
    assert "probe has no key 'sedes'; did you mean seeds?" in command("se", "sedes=2")[1]
    assert command("se", "probes=raech")[0] == 2
    assert command("se", "seeds=none")[0] == 2
