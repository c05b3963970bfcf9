"""What fit asks of Lightning: checkpoints that follow a moved folder, devices by name, one process that reports."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning_utilities.core.rank_zero import rank_zero_only

from attngraft._core.errors import FitError, OutputError
from attngraft._core.progress import Lines
from attngraft.fit import Fit
from attngraft.fit.lightning import FirstProcess, KeptCheckpoint, device_of, interruptible, quiet


def test_a_run_that_was_moved_keeps_its_best_score(colours: Path, begin: Callable[..., Fit], tmp_path: Path) -> None:
    """Lightning's own forgets it with a warning, and the next epoch would replace better weights."""
    first = begin(colours, out="first").run()
    first.folder.rename("moved")
    state = torch.load("moved/best.ckpt", weights_only=True)["callbacks"]
    key = next(key for key in state if key.startswith("ModelCheckpoint") and "'top1'" in key)
    made = KeptCheckpoint(dirpath=tmp_path / "moved", filename="best", monitor="top1", mode="max", save_top_k=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.load_state_dict(state[key])
    assert float(made.best_model_score or 0) == pytest.approx(first.best["top1"])
    assert Path(made.best_model_path) == tmp_path / "moved/best.ckpt"
    assert list(made.best_k_models) == [str(tmp_path / "moved/best.ckpt")]


def test_its_state_has_the_name_that_earlier_versions_wrote() -> None:
    how = {"dirpath": "x", "filename": "best", "monitor": "top1", "mode": "max"}
    assert KeptCheckpoint(**how).state_key == ModelCheckpoint(**how).state_key  # type: ignore[arg-type]


def test_devices_by_lightnings_words() -> None:
    assert device_of("cpu") == torch.device("cpu")
    with pytest.raises(FitError, match="Lightning cannot work with accelerator=tpu"):
        device_of("tpu")


def test_one_process_reports(monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    progress = FirstProcess(Lines(lines.append))
    progress.line("first")
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)
    progress.line("second")
    progress.started("a step")
    progress.finished("a step", 3)
    assert lines == ["first"]


def test_what_ran_out_is_named_and_a_fault_is_not_hidden(tmp_path: Path) -> None:
    class Trainer:
        interrupted = False

    with pytest.raises(OutputError, match="start again: the disk is full"), interruptible(Trainer(), tmp_path):  # type: ignore[arg-type]
        raise OSError(28, "No space left on device")
    with pytest.raises(RuntimeError, match="a fault"), interruptible(Trainer(), tmp_path):  # type: ignore[arg-type]
        raise RuntimeError("a fault")


def test_only_lightnings_advice_is_silenced() -> None:
    with quiet():
        warnings.warn("The dataloader does not have many workers which may be a bottleneck", stacklevel=1)
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", stacklevel=1)
