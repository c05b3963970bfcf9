"""``attngraft fit`` as a user meets it: verbs, exit codes, one clear sentence."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from attngraft.cli import main

QUICK = "batch=8 imgsz=16 workers=0 accelerator=cpu"


@pytest.fixture
def run() -> Callable[[str], Result]:
    """Run the command in this process."""
    return lambda line: CliRunner().invoke(main, line.split())


def test_train_go_on_measure_and_predict(run: Callable[[str], Result], colours: Path) -> None:
    trained = run(f"fit model=tiny_classifier data={colours} epochs=2 {QUICK} lr=2e-2 model.width=6 out=run")
    assert trained.exit_code == 0, trained.output
    *_, epoch, sentence = trained.output.splitlines()
    assert epoch.startswith("epoch 2/2  train_loss ")
    assert sentence.startswith("tiny_classifier: ")
    assert sentence.endswith("best weights in run/best.ckpt")
    measured = run("fit val model=run split=test workers=0")
    assert measured.output.startswith("run/best.ckpt: val_loss "), measured.output
    assert "top1 " in measured.output
    found = run(f"fit predict model=run/best.ckpt source={colours}/test/red/0.png")
    assert found.exit_code == 0
    assert found.output.count(" %") == 3
    assert found.output.endswith("1 of 1 images are in run/predict/predictions.csv\n")
    for name in ("red", "green", "blue"):
        assert f"{name} " in found.output
    again = run("fit resume=True model=tiny_classifier out=run")
    assert again.exit_code == 2
    assert "run is finished: 2 of 2 epochs" in again.output


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("fit", 2, "Missing argument"),
        ("fit model=tiny_classifier", 2, "fit needs data, as in: attngraft fit model=botnet50 data=FOLDER"),
        ("fit data=x", 2, "fit needs model"),
        ("fit model=tiny_classifier data=x epochs", 2, "expected key=value, got 'epochs'"),
        ("fit model=tiny_classifier data=x seed=1 seed=2", 2, "seed is given twice"),
        ("fit model=tiny_classifier data=x epoch=1", 2, "attngraft: fit has no option 'epoch'; did you mean epochs?"),
        ("fit model=tiny_clasifier data=x", 2, "attngraft: no model is called 'tiny_clasifier'"),
        ("fit model=tiny_classifier data=nowhere", 1, "attngraft: nowhere is not a folder; give one with train/ in it"),
        ("fit resume=True", 2, "say which run to resume, as in: attngraft fit resume=runs/fit/botnet50"),
        ("fit resume=True model=tiny_classifier", 1, "there is no run in runs/fit/tiny_classifier"),
        ("fit resume=nowhere", 1, "nowhere does not exist: the run had not finished an epoch"),
        ("fit predict source=x", 2, "fit predict needs model"),
        ("fit val", 2, "fit val needs model"),
        ("fit predict model=nowhere.ckpt source=x", 1, "nowhere.ckpt does not exist"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    run: Callable[[str], Result], line: str, code: int, message: str
) -> None:
    found = run(line)
    assert (found.exit_code, message in found.output) == (code, True), found.output
    assert "Traceback" not in found.output


def test_predict_checks_its_keys(run: Callable[[str], Result], colours: Path) -> None:
    run(f"fit model=tiny_classifier data={colours} epochs=1 {QUICK} out=run")
    assert "fit predict needs source" in run("fit predict model=run").output
    unknown = run("fit predict model=run source=x confidense=0.5")
    assert "fit predict has no key 'confidense'; did you mean confidence?" in unknown.output
    assert (
        "confidence is a number from 0 to 1, got 'high'" in run("fit predict model=run source=x confidence=high").output
    )
    shutil.copytree(colours / "test/red", "images")
    Path("images/bad.png").write_bytes(b"no image")
    partly = run("fit predict model=run source=images accelerator=cpu")
    assert partly.exit_code == 1
    assert partly.output.count(" %") == 6
    assert "images/bad.png: left out: images/bad.png is not an image that can be read" in partly.output
    assert "attngraft: 1 of 3 images in images are left out; the lines above name them" in partly.output
    assert "validation has no option 'spilt'; did you mean split?" in run("fit val model=run spilt=test").output
    assert run("fit val model=run color=red").exit_code == 2
    assert run("fit val model=run color=red").output.count("data") == 1


def test_without_lightning_the_extra_is_named(run: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    for line in ("fit model=tiny_classifier data=x", "fit val model=x", "fit predict model=x source=y"):
        found = run(line)
        assert found.exit_code == 1
        assert "pip install 'attngraft[fit]'" in found.output
