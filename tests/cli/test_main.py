"""The command as a user meets it: real processes, exit codes, one clear sentence."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ultralytics.utils  # noqa: F401  (its logger keeps the stdout of its first import, which must outlive a test)
import yaml
from click.testing import CliRunner, Result

from attngraft.cli import main

SHORT = "epochs=1 imgsz=64 batch=4 device=cpu workers=0 plots=False amp=False optimizer=SGD lr0=0.1"


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


def test_help_names_every_command_and_needs_no_torch() -> None:
    code = "import sys; sys.argv = ['attngraft', '--help']\ntry:\n import attngraft.__main__\nexcept SystemExit: pass\n"
    code += "print('HEAVY', {'torch', 'ultralytics', 'numpy', 'rich'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "HEAVY set()" in out
    assert {"train", "val", "predict", "track", "tune", "export", "graft", "list", "show", "demo"} <= set(out.split())


@pytest.mark.parametrize("command", ["bench", "doctor", "fit", "study"])
def test_examples_in_help_stand_a_line_each(run: Callable[[str], Result], command: str) -> None:
    lines = [line.strip() for line in run(f"{command} --help").output.splitlines()]
    examples = [line for line in lines if line.startswith(f"attngraft {command} ")]
    assert len(examples) >= 2
    assert not any("\\b" in line for line in lines)


def test_list_and_show_speak_from_the_registry(run: Callable[[str], Result]) -> None:
    listed = run("list *ca*")
    assert listed.exit_code == 0
    assert re.search(r"^eca +2020 +5 ", listed.output, re.MULTILINE)
    assert "mhsa" not in listed.output
    shown = run("show MHSA").output
    assert "2101.11605" in shown
    assert "201,600 parameters" in shown
    assert "heads" in shown
    assert "`" not in shown


OWN = """
import attngraft
from torch import nn

@attngraft.register
class PlainOfATest(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return self.conv(x)

@attngraft.register(growth="N [cells]", formula="f([x])")
class NarrowOfATest(PlainOfATest):
    '''Work on few channels only.'''

    def __init__(self, channels):
        if channels > 64:
            raise ValueError("at most 64 channels")
        super().__init__(channels)
"""


def test_list_and_show_take_a_mechanism_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    Path("own_of_a_test.py").write_text(OWN)
    command = [sys.executable, "-m", "attngraft", "--plugin", "own_of_a_test.py"]

    def said(*words: str) -> str:
        return subprocess.run([*command, *words], capture_output=True, text=True, check=True).stdout

    listed = said("list", "*_of_a_test")
    after = [sys.executable, "-m", "attngraft", "list", "--plugin", "own_of_a_test.py", "*_of_a_test"]
    assert subprocess.run(after, capture_output=True, text=True, check=True).stdout == listed
    assert re.search(r"^plain_of_a_test +65,792 +26.21 *$", listed, re.MULTILINE)
    failure = "fails at 256 channels, 20 x 20: ValueError: at most 64 channels"
    assert re.search(rf"^narrow_of_a_test +{failure}", listed, re.MULTILINE)
    plain, narrow = said("show", "plain_of_a_test"), said("show", "narrow_of_a_test")
    assert re.match(r"plain_of_a_test\nfamily +user \(mixer\) *\nexample +65,792 parameters, 26.21 M", plain)
    assert narrow.startswith("Work on few channels only.\n")
    assert re.search(r"f\(\[x\]\).*grows with N \[cells\].*" + failure, narrow, re.DOTALL)


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


def test_graft_then_train_validate_predict_export(data: Path, run: Callable[[str], Result]) -> None:
    made = run("graft yolo11n.yaml mhsa@P5 -o grafted.pt")
    assert made.exit_code == 0, made.output
    assert Path("grafted.pt").is_file()
    again = run("graft yolo11n.yaml mhsa@P5 -o grafted.pt")
    assert again.exit_code == 1
    assert "exists and is left as it is" in again.output
    out = f"imgsz=64 device=cpu project={Path.cwd()}"
    for line in (
        f"train model=grafted.pt data={data} {SHORT} -o run",
        f"val model=run/weights/best.pt data={data} workers=0 plots=False imgsz=64 device=cpu output=deep/val",
        f"predict model=run/weights/best.pt source={data.parent}/images/val {out} name=seen",
        "export model=run/weights/best.pt format=torchscript imgsz=64 device=cpu",
    ):
        command = [sys.executable, "-m", "attngraft", *line.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(Path("seen").glob("*"))) == 8
    assert Path("deep/val").is_dir()
    assert Path("run/weights/best.torchscript").is_file()


def test_a_label_of_an_unknown_class_stops_the_training(data: Path, run: Callable[[str], Result]) -> None:
    (data.parent / "labels/train/0.txt").write_text("7 0.5 0.5 0.5 0.5\n")
    result = run(f"train model=yolo11n.yaml+se@P5 data={data} {SHORT}")
    assert result.exit_code == 1
    assert "1 of 8 training images are left out" in result.output
    assert "images/train/0.png (Label class 7 exceeds dataset class count 2" in result.output


def test_an_unreadable_picture_is_named_and_the_rest_trains(data: Path, run: Callable[[str], Result]) -> None:
    (data.parent / "images/val/3.png").write_bytes(b"not a picture")
    result = run(f"train model=yolo11n.yaml+se@P5 data={data} {SHORT}")
    assert result.exit_code == 0, result.output
    assert "1 of 8 validation images are left out, first" in result.output
    assert "images/val/3.png" in result.output


def test_an_output_that_cannot_be_written_is_named(data: Path, run: Callable[[str], Result]) -> None:
    Path("blocked").write_text("a file")
    result = run(f"train model=yolo11n.yaml+se@P5 data={data} {SHORT} project={Path.cwd()}/blocked/runs")
    assert result.exit_code == 1
    assert "blocked/runs" in result.output
    assert Path("blocked").read_text() == "a file"


def test_an_interrupt_says_how_to_go_on(
    data: Path, run: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.engine.trainer import BaseTrainer

    def stop(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BaseTrainer, "final_eval", stop)
    result = run(f"train model=yolo11n.yaml+se@P5 data={data} {SHORT} project={Path.cwd()} name=run")
    assert result.exit_code == 1
    assert "resume=True" in result.output
    assert Path("run/weights/last.pt").is_file()


def test_an_interrupt_of_what_is_no_training_speaks_of_none(
    run: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    import attngraft.cli.bench

    def stop(words: object, output: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(attngraft.cli.bench, "run_bench", stop)
    result = run("bench model=yolo11n")
    assert (result.exit_code, result.output.strip()) == (1, "attngraft: stopped")
