"""Real trainings on tiny data: what they leave behind, going on after an interruption, and what they refuse."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning
import pytest
import torch
import yaml
from filelock import FileLock
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attngraft._core.errors import CheckpointError, DataError, FitError, OutputError
from attngraft._core.progress import Lines, Silent
from attngraft.fit import Fit, load, predict, validate
from attngraft.fit.callbacks import History, MovingAverage
from attngraft.fit.training import latest

ROOT = Path(__file__).resolve().parents[2]
LEARN: dict[str, Any] = {"epochs": 12, "batch": 4, "lr": 0.02, "randaugment": 0, "ema": 0.9, "label_smoothing": 0.0}


def weights(file: Path, key: str = "state_dict") -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=True)[key]


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_it_learns_and_leaves_everything_in_its_folder(
    colours: Path, begin: Callable[..., Fit], lines: list[str]
) -> None:
    result = begin(colours, progress=Lines(lines.append), **LEARN).run()
    assert result.best["top1"] > 0.9
    assert result.folder == Path("runs/fit/tiny_classifier")
    assert {file.name for file in result.folder.iterdir()} == {
        *("best.ckpt", "last.ckpt", "fit.yaml", "result.json", "metrics.csv", "tensorboard")
    }
    with (result.folder / "metrics.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in table] == list(range(1, 13))
    assert float(table[-1]["top1"]) == result.last["top1"]
    rates = [float(row["lr"]) for row in table]
    assert 0.5 * LEARN["lr"] < max(rates) <= LEARN["lr"]
    assert rates[-1] < 0.1 * LEARN["lr"]
    events = EventAccumulator(str(result.folder / "tensorboard")).Reload()
    assert {"lr", "top1", "train_loss"} <= set(events.Tags()["scalars"])
    assert [event.value for event in events.Scalars("lr")] == pytest.approx(rates)
    written = json.loads((result.folder / "result.json").read_text())
    assert [row["epoch"] for row in written["epochs"]] == list(range(1, 13))
    assert "torch" in written["environment"]["versions"]
    assert lines[1].startswith("epoch 1/12  train_loss ")
    assert lines[-1] == result.sentence
    assert f"top1 {100 * result.best['top1']:.2f}" in result.sentence
    assert str(result.folder / "best.ckpt") in result.sentence
    trained = load(result.folder)
    assert validate(trained, workers=0)["top1"] == pytest.approx(result.best["top1"])
    assert validate(trained.untrained(), workers=0)["top1"] < 0.9
    found = predict(trained, colours / "test", "here", progress=Lines(lines.append))
    with Path("here/predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["class"] for row in table[:3]] == [name for name, _ in found[0]]
    assert [row["rank"] for row in table] == ["1", "2", "3"] * 6
    assert {row["image"] for row in table} == set(map(str, (colours / "test").glob("*/*.png")))
    assert float(table[0]["probability"]) == found[0][0][1]
    assert validate(trained, split="test", workers=0).keys() == {"val_loss", "top1", "top5"}


def test_every_default_is_written_out(colours: Path, begin: Callable[..., Fit]) -> None:
    fit = begin(colours, **{"model.width": 4})
    folder = fit.run().folder
    found = yaml.safe_load((folder / "fit.yaml").read_text())
    assert found == fit.options.plain()
    assert found["optimizer"] == "adamw"
    assert found["model_options"] == {"width": 4}


def test_nothing_is_overwritten(colours: Path, begin: Callable[..., Fit]) -> None:
    assert [begin(colours, out="run").run().folder for _ in range(2)] == [Path("run"), Path("run-2")]
    Path("file").write_text("mine")
    with pytest.raises(OutputError, match="cannot make file/run"):
        begin(colours, out="file/run").run()
    assert latest(Path("run")) == Path("run-2")
    with pytest.raises(CheckpointError, match="no run in other"):
        latest(Path("other"))


class Interrupt(Callback):
    """Press Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            raise KeyboardInterrupt


@contextmanager
def interrupted(epoch: int) -> Iterator[None]:
    """Interrupt every training in that epoch."""
    import attngraft.fit.training as module

    made = module.trainer_of

    def make(options: Any, folder: Path, callbacks: list[Callback], monitor: str) -> Any:
        return made(options, folder, [*callbacks, Interrupt(epoch)], monitor)

    with patch.object(module, "trainer_of", make):
        yield


def test_going_on_gives_the_training_that_was_interrupted_bit_for_bit(
    colours: Path, begin: Callable[..., Fit], lines: list[str]
) -> None:
    options = {"epochs": 4, "randaugment": 9}
    whole = begin(colours, out="whole", **options).run()
    handler = signal.getsignal(signal.SIGINT)
    with (
        interrupted(2),
        pytest.raises(KeyboardInterrupt, match="2 epochs are kept; resume with: .* fit resume=cut"),
    ):
        begin(colours, out="cut", **options).run()
    assert signal.getsignal(signal.SIGINT) is handler
    with pytest.raises(FitError, match="keeps its lr; it may change devices"):
        Fit.resume("cut", lr=1.0)
    with (
        FileLock("cut/.lock"),
        pytest.raises(FitError, match="another process is training into cut; wait for it, or end it first"),
    ):
        Fit.resume("cut").run()
    cut = Fit.resume("cut", progress=Lines(lines.append)).run()
    assert [line.split()[1] for line in lines if line.startswith("epoch")] == ["3/4", "4/4"]
    for key in ("state_dict", "current_model_state"):
        assert_same(weights(cut.folder / "last.ckpt", key), weights(whole.folder / "last.ckpt", key))
    assert_same(weights(cut.folder / "best.ckpt"), weights(whole.folder / "best.ckpt"))
    assert cut.best == whole.best
    tables = [(folder / "metrics.csv").read_text() for folder in (cut.folder, whole.folder)]
    assert tables[0] == tables[1]
    rows = json.loads((cut.folder / "result.json").read_text())["epochs"]
    assert rows == json.loads((whole.folder / "result.json").read_text())["epochs"]
    with pytest.raises(FitError, match="cut is finished: 4 of 4 epochs; .* weights=cut/last.ckpt"):
        Fit.resume("cut")


def test_the_order_does_not_depend_on_the_number_of_workers(colours: Path, begin: Callable[..., Fit]) -> None:
    alone, helped = (begin(colours, workers=workers, randaugment=9).run() for workers in (0, 1))
    assert_same(weights(alone.folder / "last.ckpt"), weights(helped.folder / "last.ckpt"))


def test_ctrl_c_in_the_first_epoch_keeps_nothing_and_says_so(colours: Path, begin: Callable[..., Fit]) -> None:
    with interrupted(0), pytest.raises(KeyboardInterrupt, match="stopped in the first epoch"):
        begin(colours).run()
    with pytest.raises(CheckpointError, match=r"last.ckpt does not exist: .* start it again"):
        Fit.resume("runs/fit/tiny_classifier")


def test_ctrl_c_in_a_real_process(colours: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    script += "from tests.fit.networks import entered\nfrom attngraft.cli import main\nwith entered(): main()"
    words = f"fit model=tiny_classifier data={colours} epochs=100000 batch=8 imgsz=16 workers=0 out=run accelerator=cpu"
    command = [sys.executable, "-c", script, *words.split()]
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a test run in the background ignores it
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeding
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                process.send_signal(signal.SIGINT)
                break
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.strip().splitlines()[-1].startswith("attngraft: stopped, ")
    assert "attngraft fit resume=run" in said
    assert "Traceback" not in said
    assert load("run/last.ckpt").classes == ("blue", "green", "red")


def test_the_average_is_what_is_validated_and_kept(colours: Path, begin: Callable[..., Fit]) -> None:
    averaged = begin(colours, epochs=2, ema=0.99).run().folder / "last.ckpt"
    plain = begin(colours, epochs=2, ema=0.0).run().folder / "last.ckpt"
    assert_same(weights(averaged, "current_model_state"), weights(plain))
    name = "network.conv.weight"
    assert not torch.equal(weights(averaged)[name], weights(plain)[name])


def test_the_average_is_that_of_the_steps() -> None:
    update = MovingAverage(0.5)._kwargs["multi_avg_fn"]
    average, counter = torch.tensor([0.0]), torch.tensor([3])
    update([average], [torch.tensor([1.0])], torch.tensor(1))  # decay min(0.5, 2 / 11)
    assert average.item() == pytest.approx(9 / 11)
    update([average], [torch.tensor([1.0])], torch.tensor(100))
    assert average.item() == pytest.approx(10 / 11)
    update([counter], [torch.tensor([8])], torch.tensor(1))
    assert counter.item() == 8


def test_accumulated_parts_are_the_batch(colours: Path, begin: Callable[..., Fit]) -> None:
    folder = begin(colours, batch=8, accumulate=4, optimizer="sgd").run().folder
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 24 // 8


def test_beginning_from_weights(colours: Path, begin: Callable[..., Fit], lines: list[str], tmp_path: Path) -> None:
    first = begin(colours, out="first").run()
    two = tmp_path / "two"
    for split in ("train", "val"):
        for name in ("red", "green"):
            (two / split).mkdir(parents=True, exist_ok=True)
            (two / split / name).symlink_to(colours / split / name)
    begin(two, weights=str(first.folder / "best.ckpt"), progress=Lines(lines.append)).run()
    assert lines[0] == "9 of 11 weights are from first/best.ckpt; 2 are re-initialized, the first is fc.weight"
    torch.save({"other": torch.zeros(2)}, "other.pt")
    with pytest.raises(CheckpointError, match="cannot initialize from weights=other.pt: the state shares no tensor"):
        begin(colours, weights="other.pt").run()
    for content in (b"no checkpoint", b"hello\n", b"(lp0", b"", (first.folder / "best.ckpt").read_bytes()[:999]):
        Path("broken.ckpt").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"broken.ckpt is not a checkpoint .* a file of weights alone$"):
            begin(colours, weights="broken.ckpt").run()
    torch.save({"state_dict": partial(print, "run")}, "program.pt")
    with pytest.raises(
        CheckpointError, match="program.pt is not a checkpoint that can be read: .*, which would be run"
    ):
        begin(colours, weights="program.pt").run()
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        begin(colours, weights=str(two)).run()
    with pytest.raises(CheckpointError, match="nowhere.ckpt does not exist"):
        begin(colours, weights="nowhere.ckpt").run()


def test_a_checkpoint_is_checked(colours: Path, begin: Callable[..., Fit]) -> None:
    folder = begin(colours).run().folder
    torch.save({"a": torch.zeros(1)}, "foreign.pt")
    with pytest.raises(CheckpointError, match="was not written by attngraft fit"):
        load("foreign.pt")
    content = torch.load(folder / "best.ckpt", weights_only=True)
    content["attngraft"]["classes"].append("violet")
    torch.save(content, "violet.ckpt")
    with pytest.raises(CheckpointError, match=r"with 4 classes, and its .*fc.weight is \(3, 8\) where that"):
        load("violet.ckpt")
    (folder / "fit.yaml").unlink()
    with pytest.raises(CheckpointError, match="no folder of a training"):
        Fit.resume(folder)


def test_other_classes_are_refused(colours: Path, begin: Callable[..., Fit], tmp_path: Path) -> None:
    trained = load(begin(colours).run().folder)
    for name in ("red", "teal"):
        (tmp_path / "other/train" / name).mkdir(parents=True)
        (tmp_path / "other/val").mkdir(exist_ok=True)
        (tmp_path / "other/val" / name).symlink_to(colours / "val/red")
    with pytest.raises(DataError, match=r"has 2 classes \(red, teal, ...\) and training had 3 \(blue, green, red"):
        validate(trained, tmp_path / "other", workers=0)


def test_a_loss_that_is_no_number_ends_it(
    colours: Path, begin: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    from attngraft.fit.tasks.classify import Classifier

    step = Classifier.training_step

    def fail(self: Classifier, batch: Any, index: int) -> torch.Tensor:
        return step(self, batch, index) * (math.nan if self.current_epoch else 1.0)

    monkeypatch.setattr(Classifier, "training_step", fail)
    with pytest.raises(FitError, match="the loss became nan in epoch 2; lower lr="):
        begin(colours, epochs=3).run()
    assert torch.load("runs/fit/tiny_classifier/last.ckpt", weights_only=True)["epoch"] == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_named(colours: Path, begin: Callable[..., Fit], workers: int) -> None:
    shutil.copytree(colours, "data")
    Path("data/train/red/bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^data/train/red/bad.png is not an image that can be read") as caught:
        begin(Path("data"), workers=workers).run()
    assert "Traceback" not in str(caught.value)


def test_devices_have_to_divide_the_batch(colours: Path, begin: Callable[..., Fit]) -> None:
    with pytest.raises(FitError, match="batch=9 cannot be cut into equal parts for 2 devices with accumulate=1"):
        begin(colours, batch=9, devices=2).run()
    with pytest.raises(FitError, match="Lightning cannot work with accelerator=cpu devices=1 precision=fp77: .*fp77"):
        begin(colours, precision="fp77").run()


@pytest.mark.parametrize(
    "where", [{"accelerator": "tpu"}, {"devices": 7}, {"devices": 0}, {"devices": "x"}, {"accelerator": "abacus"}]
)
def test_a_start_that_fails_leaves_nothing_behind(
    colours: Path, begin: Callable[..., Fit], where: dict[str, Any]
) -> None:
    Path("mine").mkdir()
    for out in ("run", "mine"):
        with pytest.raises(FitError, match="Lightning cannot work with|cannot be cut into equal parts for 7 devices"):
            begin(colours, out=out, **where).run()
    assert [file.name for file in Path().iterdir()] == ["mine"]
    with pytest.raises(CheckpointError, match="no run in run"):
        latest(Path("run"))


def test_a_place_that_there_is_not_is_named_in_validation(colours: Path, begin: Callable[..., Fit]) -> None:
    trained = load(begin(colours).run().folder)
    with pytest.raises(FitError, match="Lightning cannot work with accelerator=tpu"):
        validate(trained, accelerator="tpu", workers=0)


def test_half_precision(colours: Path, begin: Callable[..., Fit]) -> None:
    result = begin(colours, precision="bf16-mixed").run()
    assert weights(result.folder / "last.ckpt")["network.conv.weight"].dtype == torch.float32


def test_two_devices_see_each_picture_once(
    colours: Path, begin: Callable[..., Fit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With forked processes, which need not import everything anew as those of the command do."""
    monkeypatch.setattr("lightning.Trainer", partial(lightning.Trainer, strategy="ddp_fork"))
    begin(colours, epochs=2, devices=2, out="run").run()
    assert torch.load("run/last.ckpt", weights_only=True)["global_step"] == 2 * 24 // 8
    rows = torch.load("run/last.ckpt", weights_only=True)["callbacks"]["History"]["rows"]
    assert [row["epoch"] for row in rows] == [1, 2]
    whole = rows[-1]["top1"] * 12
    assert whole == pytest.approx(round(whole))  # of 12 images, each counted once


def test_the_history_names_the_best_epoch() -> None:
    history = History(Lines())
    history.rows = [{"epoch": 1, "top1": 0.2}, {"epoch": 2, "top1": 0.6}, {"epoch": 3, "top1": 0.6}, {"epoch": 4}]
    assert history.best("top1")["epoch"] == 2


LIMITED = f"""
import resource, sys; sys.path.insert(0, {str(ROOT)!r})
from tests.fit.networks import entered
from attngraft.cli import main
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), hard))
with entered(): main()
"""


def test_a_file_that_cannot_grow_is_called_by_name_and_the_run_completes_with_room(colours: Path) -> None:
    """The limit stands for a full disk: the same writes fail in the same places."""

    def run(limit: int, words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", LIMITED, str(limit), *words.split()]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    words = f"fit model=tiny_classifier data={colours} epochs=2 batch=8 imgsz=16 workers=0 accelerator=cpu out=run"
    failed = run(16_000, f"{words} model.width=24")
    assert failed.returncode == 1
    assert "start again: the" in failed.stderr + failed.stdout, failed
    assert "limit" in failed.stderr + failed.stdout
    assert "Traceback" not in failed.stderr
    assert run(10_000_000, f"{words} model.width=24").returncode == 0
    assert load("run-2").options.model_options == {"width": 24}


@pytest.mark.parametrize("package", ["lightning", "tensorboard"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(colours: Path, package: str) -> None:
    script = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
if {package!r} == "tensorboard":
    from tests.fit.networks import entered
else:
    from contextlib import nullcontext as entered
sys.modules[{package!r}] = None
from attngraft._core.errors import MissingExtraError
from attngraft._core.progress import SILENT
try:
    from attngraft.fit import Fit
    with entered():
        Fit("tiny_classifier", {str(colours)!r}, accelerator="cpu", workers=0, progress=SILENT).run()
except MissingExtraError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == f"this needs {package}, which is not installed; run: pip install 'attngraft[fit]'\n"


class Kept(Silent):
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.results: dict[str, object] = {}
        self.lines: list[str] = []

    def started(self, what: str) -> None:
        self.steps.append(what)

    def finished(self, what: str, result: object = None) -> None:
        self.results[what] = result

    def line(self, text: str) -> None:
        self.lines.append(text)


def test_progress_gets_each_epoch_as_a_result(colours: Path, begin: Callable[..., Fit]) -> None:
    kept = Kept()
    result = begin(colours, epochs=2, progress=kept).run()
    assert kept.steps == ["epoch 1/2", "epoch 2/2"]
    assert kept.results["epoch 2/2"] == result.last
    assert kept.lines[0].startswith("training tiny_classifier on ")
    assert kept.lines[-1] == result.sentence
    seen = Kept()
    found = predict(load(result.folder), colours / "val/red", progress=seen)
    assert list(seen.results.values()) == found
