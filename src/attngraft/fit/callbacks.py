"""What happens beside the training: the moving average, the history of epochs, and what is said of it."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar, WeightAveraging
from torch import Tensor

from attngraft._core.errors import FitError
from attngraft._core.files import write_text
from attngraft._core.progress import Progress
from attngraft.fit.tasks.learner import Learner

TABLE = "metrics.csv"
TRAINING = ("train_loss", "loss_", "lr")
"""Beginnings of the names of numbers that come of training and not of validation."""

Averages = tuple[Tensor, ...] | list[Tensor]


class MovingAverage(WeightAveraging):
    """Keep an exponential moving average of weights and buffers, validate it and save it.

    Lightning's own has a constant decay: 0.9999 would leave a run of a thousand steps with the weights it started
    from. Here the decay rises as (1 + n) / (10 + n) over the steps n until it is reached.

    Args:
        decay: The decay in the long run.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=_average_with(decay))


def _average_with(decay: float) -> Callable[[Averages, Averages, Tensor | int], None]:
    @torch.no_grad()
    def update(averages: Averages, current: Averages, steps: Tensor | int) -> None:
        weight = 1 - ramped(decay, int(steps))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(list(averages), list(current), weight)
        else:  # counters, such as those of batch norm
            for average, now in zip(averages, current, strict=True):
                average.copy_(now)

    return update


def ramped(decay: float, steps: int) -> float:
    """Return the decay after so many steps.

    Example:
        >>> [round(ramped(0.999, steps), 3) for steps in (0, 1, 90, 100_000)]
        [0.1, 0.182, 0.91, 0.999]
    """
    return min(decay, (1 + steps) / (10 + steps))


class Bar(RichProgressBar):
    """A bar that is there while an epoch runs, and gone when `History` says its line."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar again."""
        self._init_progress(trainer)
        super().on_train_epoch_start(trainer, pl_module)

    def clear(self) -> None:
        """Take the bar off the terminal: whatever writes there next begins on a line of its own."""
        if self.progress is not None:
            self.progress.live.transient = True
        self._stop_progress()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave nothing of the bar behind."""
        self.clear()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave nothing of the bar above the error."""
        self.clear()

    def _get_train_description(self, current_epoch: int) -> str:
        """Count from 1, as the lines do."""
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return nothing."""
        return {}


class History(Callback):
    """Keep the numbers of every epoch, in the checkpoint and in a table too, and report them as they come.

    The table is written whole every time: that of a resumed run has the epochs before, each once.

    Args:
        progress: What the epochs are reported to.

    Attributes:
        rows: The numbers of each epoch.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.rows: list[dict[str, float]] = []
        self._began = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._began = time.perf_counter()
        self.progress.started(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the epoch; the average of the loss is there by now, and so is the validation.

        Raises:
            FitError: If the loss is no number any more; the checkpoint before this epoch is kept.
        """
        assert isinstance(pl_module, Learner)
        epoch = trainer.current_epoch + 1
        numbers = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not math.isfinite(numbers.get("train_loss", 0.0)):
            raise FitError(
                f"the loss became {numbers['train_loss']} in epoch {epoch}; lower lr={pl_module.options.lr:g}, "
                "or clip the gradient with clip=1"
            )
        validated = epoch % int(trainer.check_val_every_n_epoch or 1) == 0
        if not validated:
            numbers = {name: value for name, value in numbers.items() if name.startswith(TRAINING)}
        self.rows.append({"epoch": epoch, **numbers})
        if trainer.is_global_zero:
            write_text(Path(trainer.default_root_dir) / TABLE, as_csv(self.rows))
        shown = {name: value for name, value in numbers.items() if not name.startswith(("loss_", "lr"))}
        seconds = time.perf_counter() - self._began
        if isinstance(trainer.progress_bar_callback, Bar):
            trainer.progress_bar_callback.clear()
        name = f"epoch {epoch}/{trainer.max_epochs}"
        self.progress.finished(name, self.rows[-1])
        self.progress.line(f"{name}  {measured(pl_module, shown)}  {seconds:.1f} s")

    def best(self, monitor: str) -> dict[str, float]:
        """Return the numbers of the epoch whose weights were kept as the best."""
        scored = [row for row in self.rows if monitor in row] or self.rows
        return max(scored, key=lambda row: row.get(monitor, -math.inf), default={})

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the epochs before an interruption."""
        self.rows = [dict(row) for row in state_dict["rows"]]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as a table; what a row has not is left empty.

    Example:
        >>> print(as_csv([{"epoch": 1, "lr": 0.1}, {"epoch": 2, "lr": 0.05, "top1": 0.5}]), end="")
        epoch,lr,top1
        1,0.1,
        2,0.05,0.5
    """
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def measured(learner: Learner | type[Learner], numbers: Mapping[str, float]) -> str:
    """Write numbers in a line: fractions as percentages, the loss first."""
    ordered = sorted(numbers.items(), key=lambda item: (item[0] != "train_loss", item[0] != "val_loss"))
    return "  ".join(
        f"{name} {100 * value:.2f}" if name in learner.fractions else f"{name} {value:.4g}"
        for name, value in ordered
        if name not in ("epoch", "step")
    )
