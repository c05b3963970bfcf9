"""The life of a model on the command line: graft, train, validate, predict, export, with real runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

SHORT = "epochs=1 imgsz=64 batch=4 device=cpu workers=0 plots=False amp=False optimizer=SGD lr0=0.1"


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


@pytest.mark.parametrize(
    "line",
    ["val half=True data={data} workers=0", "predict half=True hide_labels=True source={data.parent}/images/val"],
)
def test_keys_that_ultralytics_took_earlier_still_run(data: Path, run: Callable[[str], Result], line: str) -> None:
    made = run("graft attngraft-micro.yaml se@P3 -o micro.pt")
    assert made.exit_code == 0, made.output
    verb, _, rest = line.format(data=data).partition(" ")
    result = run(f"{verb} model=micro.pt imgsz=64 device=cpu plots=False {rest}")
    assert result.exit_code == 0, result.output


def test_a_key_that_is_mistyped_is_still_named(data: Path, run: Callable[[str], Result]) -> None:
    result = run(f"train model=yolo11n.yaml data={data} label_smoothin=0.1 epochs=1")
    assert result.exit_code == 2
    assert "train has no key 'label_smoothin'" in result.output
    result = run(f"train model=yolo11n.yaml data={data} epoch=1")
    assert "train has no key 'epoch'; did you mean epochs" in result.output


def test_an_output_that_cannot_be_written_is_named(data: Path, run: Callable[[str], Result]) -> None:
    Path("blocked").write_text("a file")
    result = run(f"train model=yolo11n.yaml+se@P5 data={data} {SHORT} project={Path.cwd()}/blocked/runs")
    assert result.exit_code == 1
    assert "blocked/runs" in result.output
    assert Path("blocked").read_text() == "a file"


def interrupt(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Press Ctrl-C where the trainer comes to a method."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    def stop(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DetectionTrainer, method, stop)


def test_an_interrupt_says_how_to_go_on(
    data: Path, run: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, "final_eval")
    result = run(f"train model=yolo11n.yaml+se@P5 data={data} {SHORT} project={Path.cwd()} name=run")
    assert result.exit_code == 1
    assert "stopped; resume with: attngraft train" in result.output
    resume = shlex.split(result.output.splitlines()[-1].split("attngraft train ")[1])
    assert resume == [f"model={Path('run/weights/last.pt').absolute()}", "resume=True"]
    assert Path("run/weights/last.pt").is_file()


def test_an_interrupt_before_an_epoch_ended_names_no_file(
    data: Path, run: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, "_setup_train")
    result = run(f"train model=attngraft-micro.yaml+se@P3 data={data} {SHORT} project={Path.cwd()} name=cut")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "attngraft: stopped before an epoch ended; nothing is kept"


def test_a_cache_that_cannot_be_written_names_the_variable_that_moves_it(
    run: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run("graft attngraft-micro.yaml se@P3 -o micro.pt")
    assert made.exit_code == 0, made.output
    Path("file").write_text("no folder")
    monkeypatch.setenv("ATTNGRAFT_CACHE", str(Path("file/cache").absolute()))
    for line, place in (
        ("val model=attngraft-micro.yaml+se@P3", "seeds/.*"), ("export model=micro.pt format=torchscript", "exports")
    ):  # fmt: skip
        result = run(line)
        assert result.exit_code == 1
        said = (
            rf"attngraft: cannot write .*file/cache/{place} \(.+\); set the environment variable ATTNGRAFT_CACHE to .*"
        )
        assert re.fullmatch(said, result.output.splitlines()[-1]), result.output
