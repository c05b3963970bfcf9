"""The command as a user meets it: real processes, exit codes, one clear sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ultralytics.utils  # noqa: F401  (its logger keeps the stdout of its first import, which must outlive a test)
from click.testing import Result


@pytest.mark.parametrize(
    "line", ["--help", "train --help", "export --help", "study --help", "study run --help", "fit --help"]
)
def test_help_imports_little(line: str) -> None:
    code = (
        f"import sys; sys.argv = ['attngraft', *{line.split()}]\n"
        "try:\n import attngraft.__main__\nexcept SystemExit: pass\n"
        "print('HEAVY', {'torch', 'ultralytics', 'numpy', 'rich', 'yaml', 'pydantic'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "HEAVY set()" in out


def test_help_of_a_verb_lists_options_of_ultralytics_in_groups(run: Callable[[str], Result]) -> None:
    shown = run("train --help").output
    sections = shown.split("\n\n")
    (training,) = (section for section in sections if section.startswith("Train settings (Ultralytics):"))
    assert "  epochs=100 " in training
    (hyper,) = (section for section in sections if section.startswith("Hyperparameters (Ultralytics):"))
    assert "  lr0=0.01 " in hyper
    assert "Export settings" not in shown
    assert "Export settings (Ultralytics):\n  format=torchscript" in run("export --help").output
    assert "Tracker settings (Ultralytics):\n  tracker=" in run("track --help").output


def test_help_names_every_command(run: Callable[[str], Result]) -> None:
    words = set(run("--help").output.split())
    assert {"train", "val", "predict", "track", "tune", "export", "graft", "list", "show", "demo"} <= words


@pytest.mark.parametrize("command", ["bench", "doctor", "fit", "study"])
def test_examples_in_help_stand_a_line_each(run: Callable[[str], Result], command: str) -> None:
    lines = [line.strip() for line in run(f"{command} --help").output.splitlines()]
    examples = [line for line in lines if line.startswith(f"attngraft {command} ")]
    assert len(examples) >= 2
    assert not any("\\b" in line for line in lines)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("bench --plugin none.py yolo11n", 2, "none.py is no file"),
        ("--plugin none.py list", 2, "none.py is no file"),
        ("show mhsaa", 2, "did you mean mhsa"),
        ("list foo", 2, "no mechanism matches 'foo'; attngraft list shows all of them"),
        ("train data=x.yaml", 2, "say which model"),
        ("train model=yolo11n epochs", 2, "expected key=value, got 'epochs'"),
        ("train model=yolo11n epohcs=3", 2, "no key 'epohcs'; did you mean epochs"),
        ("train model=yolo11n+msha@P5", 2, "no mechanism is called 'msha'"),
        ("train model=yolo11n.yaml+mhsa@P9", 1, "no place P9; this model has P2, P3, P4, P5, N3, N4, N5"),
        ("val model=nowhere.pt", 1, "there is no file nowhere.pt"),
        ("graft yolo11n.yaml se@P5 -o out.onnx", 1, "ends in .pt"),
        ("graft yolo11n.yaml se@P5", 2, "Missing option"),
        ("train model=yolo11n.yaml+se@P5 data=nowhere.yaml", 1, "nowhere.yaml"),
        ("fly", 2, "No such command"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    line: str, code: int, message: str, run: Callable[[str], Result]
) -> None:
    result = run(line)
    assert result.exit_code == code
    assert message in result.output
    assert "Traceback" not in result.output


def test_debug_shows_the_traceback(run: Callable[[str], Result]) -> None:
    result = run("--debug val model=nowhere.pt")
    assert type(result.exception).__name__ == "CheckpointError"


def test_an_interrupt_of_what_is_no_training_speaks_of_none(
    run: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    import attngraft.cli.bench

    def stop(words: object, output: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attngraft.cli.bench, "run_bench", stop)
    result = run("bench model=yolo11n")
    assert (result.exit_code, result.output.strip()) == (1, "attngraft: stopped")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no folder that a process is in")
def test_a_working_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    """PyTorch's library of kernels ends the process without a sentence where it is loaded from there."""
    gone = tmp_path / "gone"
    gone.mkdir()
    words = ["sh", "-c", 'rmdir "$0" && exec "$1" list', str(gone), str(Path(sys.executable).with_name("attngraft"))]
    done = subprocess.run(words, cwd=gone, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "attngraft: the working folder is gone; change to one that exists\n"
