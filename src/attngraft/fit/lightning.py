"""What `Fit` asks of Lightning: a trainer where the options say, its checkpoints, its interruption and its silence."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_only

from attngraft._core.errors import AttngraftError, DataError, FitError, OutputError
from attngraft._core.extras import extra_package
from attngraft._core.progress import Progress, Silent
from attngraft._core.shortage import shortage
from attngraft.fit.callbacks import Bar, MovingAverage
from attngraft.fit.files import BEST, LAST
from attngraft.fit.options import Options
from attngraft.fit.trained import read

UNHELPFUL = (
    ".*does not have many workers.*",  # workers are an option of ours
    "(?s).*Checkpoint directory .* exists and is not empty.*",  # we made it, and fit.yaml is in it
    ".*The number of training batches .* is smaller than the logging interval.*",  # epochs are what is logged
    ".*treespec.*is deprecated.*",  # Lightning 2.6 with PyTorch 2.14
)
"""Warnings of Lightning about what is not the user's concern."""


CANNOT = (MisconfigurationException, ImportError, TypeError, ValueError, RuntimeError)
"""What Lightning raises for a device or a precision that there is not."""


class FirstProcess(Silent):
    """Progress that only the first of the processes of a run reports.

    Args:
        progress: What it is reported to.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def started(self, what: str) -> None:
        """Report a step that starts."""
        on_main(self.progress.started)(what)

    def finished(self, what: str, result: object = None) -> None:
        """Report the result of a step."""
        on_main(self.progress.finished)(what, result)

    def line(self, text: str) -> None:
        """Report a sentence."""
        on_main(self.progress.line)(text)


class Stopped(KeyboardInterrupt):
    """A training run that was interrupted; its text says how to resume it."""


def device_of(accelerator: str) -> torch.device:
    """Return the device that Lightning's word means.

    Raises:
        FitError: If there is no such device.
    """
    try:
        with quiet():
            return L.Fabric(accelerator=accelerator, devices=1).device
    except CANNOT as error:
        raise FitError(f"Lightning cannot work with accelerator={accelerator}: {error}") from error


def trainer_of(options: Options, folder: Path, callbacks: list[Callback], monitor: str) -> L.Trainer:
    """Return the trainer of a run, with its logger, progress bar and checkpoints.

    Raises:
        FitError: If it cannot run where the options say, or the batch cannot be cut for its devices.
    """
    extra_package("tensorboard", "fit")
    if options.ema:
        callbacks = [MovingAverage(options.ema), *callbacks]
    if sys.stdout.isatty():
        callbacks = [*callbacks, Bar()]
    trainer = on_lightning(
        options,
        max_epochs=options.epochs,
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=options.clip or None,
        check_val_every_n_epoch=options.val_every,
        callbacks=[*callbacks, *_checkpoints(folder, monitor, options.val_every)],
        logger=TensorBoardLogger(folder, name="tensorboard", version=""),
        enable_progress_bar=sys.stdout.isatty(),
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        sync_batchnorm=options.accelerator != "cpu" and torch.cuda.is_available(),
        default_root_dir=folder,
    )
    parts = trainer.world_size * options.accumulate
    if options.batch % parts:
        raise FitError(
            f"batch={options.batch} cannot be cut into equal parts for {trainer.world_size} devices with "
            f"accumulate={options.accumulate}; take a multiple of {parts}"
        )
    return trainer


def on_lightning(options: Options, **how: Any) -> L.Trainer:
    """Return a trainer where the options say.

    Raises:
        FitError: If there is no such place.
    """
    where = {"accelerator": options.accelerator, "devices": _devices(options), "precision": options.precision}
    try:
        return L.Trainer(**where, enable_model_summary=False, use_distributed_sampler=False, **how)
    except CANNOT as error:
        raise FitError(
            f"Lightning cannot work with accelerator={options.accelerator} devices={options.devices} "
            f"precision={options.precision}: {error}"
        ) from error


class KeptCheckpoint(ModelCheckpoint):
    """Lightning's checkpoints of a run, which keep their best score when the run's folder was moved or renamed."""

    @property
    def state_key(self) -> str:
        """Return the name that Lightning's own class has: checkpoints of earlier versions are found under it."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state before an interruption, its paths in the folder as it is called now."""
        super().load_state_dict(_moved(state_dict, str(state_dict["dirpath"]), str(self.dirpath)))


def _moved(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {_moved(key, old, new): _moved(one, old, new) for key, one in value.items()}
    return new + value.removeprefix(old) if isinstance(value, str) and value.startswith(old) else value


def _checkpoints(folder: Path, monitor: str, val_every: int) -> list[KeptCheckpoint]:
    """Return what keeps the best and the last weights, both at the end of an epoch: resuming is exact there."""
    kept: dict[str, Any] = {
        "dirpath": folder,
        "save_top_k": 1,
        "enable_version_counter": False,
        "save_on_train_epoch_end": True,
    }
    best = KeptCheckpoint(filename=Path(BEST).stem, monitor=monitor, mode="max", every_n_epochs=val_every, **kept)
    return [best, KeptCheckpoint(filename=Path(LAST).stem, **kept)]


def _devices(options: Options) -> Any:
    return list(options.devices) if isinstance(options.devices, tuple) else options.devices


def on_main(do: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function run in the first of the processes only."""
    made: Callable[..., Any] = rank_zero_only(do)
    return made


@contextmanager
def interruptible(trainer: L.Trainer, folder: Path) -> Iterator[None]:
    """Turn Lightning's exit after Ctrl-C into `Stopped`, and leave the signal as it was.

    Raises:
        OutputError: If the disk is full or memory ran out; says how to resume.
        Stopped: After Ctrl-C.
    """
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        with plain_data_errors():
            yield
    except (OSError, RuntimeError, MemoryError) as error:
        short = shortage(error)
        if short is None or isinstance(error, AttngraftError):
            raise
        raise OutputError(f"{_how_to_go_on(folder)}: {short}") from error
    except SystemExit:
        if not trainer.interrupted:
            raise
        raise Stopped(_how_to_go_on(folder)) from None
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)


def _how_to_go_on(folder: Path) -> str:
    if (folder / LAST).is_file():
        epochs = int(read(folder / LAST)["epoch"]) + 1
        return f"stopped, {epochs} epochs are kept; resume with: attngraft fit resume={shlex.quote(str(folder))}"
    return f"stopped in the first epoch, before there was anything to keep in {folder}; start again"


@contextmanager
def plain_data_errors() -> Iterator[None]:
    """Say what a loading process says in one sentence, without the traceback that PyTorch wraps it in."""
    try:
        yield
    except DataError as error:
        _, wrapped, sentence = str(error).rpartition("DataError: ")
        if not wrapped:
            raise
        raise DataError(sentence.strip()) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning to what concerns the user: no advertisement, no advice on options that are ours."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for text in UNHELPFUL:
            warnings.filterwarnings("ignore", text)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
