"""What training runs of all tasks share: the optimizer, its schedule, and what a checkpoint states of itself."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from PIL import Image
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from attngraft._core.errors import FitError, OptionError
from attngraft.fit.data.loading import EpochSampler, mixed
from attngraft.fit.options import Options
from attngraft.models import create

MARK = "attngraft"
"""Key under which our checkpoints say what they are."""

STEPS = (0.5, 0.8, 0.9, 0.95)


class Learner(L.LightningModule, ABC):
    """A network, its loss and its measures.

    Args:
        options: The options of the run.
        classes: Names of the classes; empty where there are none.

    Attributes:
        monitor: The measure by which the best weights are chosen, higher is better.
        fractions: The measures that are fractions, and shown as percentages.
        file: Name of the file that holds the rows of predictions; None for no such file.
        when_full: What to do about an image that memory cannot hold.
    """

    monitor: ClassVar[str]
    fractions: ClassVar[tuple[str, ...]] = ()
    file: ClassVar[str | None] = None
    when_full: ClassVar[str] = "make it smaller, or predict with a smaller batch"

    def __init__(self, options: Options, classes: Sequence[str] = ()) -> None:
        super().__init__()
        self.options = options
        self.classes = tuple(classes)
        torch.manual_seed(options.seed)
        self.network = _network(options, self.network_options(), self.network_suggestions())

    @abstractmethod
    def network_options(self) -> dict[str, Any]:
        """Return what the data and the options decide about the network."""

    def network_suggestions(self) -> dict[str, Any]:
        """Return what suits the options and the network, unless the user says otherwise."""
        return {}

    @abstractmethod
    def loader(self, data: Any, *, training: bool, parts: int) -> DataLoader[Any]:
        """Load a split, in training a batch's share of ``parts`` at once."""

    @abstractmethod
    def predict(self, images: Sequence[Tensor]) -> list[Any]:
        """Return the prediction for each image, given as bytes ``(3, H, W)`` on the CPU."""

    def kept(self, result: Any, confidence: float) -> Any:
        """Return the part of a prediction that reaches a confidence, where it has one."""
        return result

    @abstractmethod
    def describe(self, result: Any) -> str:
        """Return a prediction in words."""

    def draw(self, image: Tensor, result: Any) -> Image.Image | None:
        """Return an image that shows the prediction; None where words are enough."""
        return None

    def rows(self, key: int | str, path: str, result: Any) -> list[dict[str, Any]]:
        """Return a prediction for a program to read, as rows of `file`."""
        return []

    def tiles(self, tile: int | None, overlap: int | None) -> None:
        """Take the size of the parts in which images are predicted.

        Raises:
            OptionError: If this task has none.
        """
        if tile is not None or overlap is not None:
            raise OptionError(f"tile and overlap are for superres, and {self.options.model} is to {self.options.task}")

    def saved(self) -> dict[str, Any]:
        """Return what a checkpoint says besides options and class names."""
        return {}

    def restored(self, content: Mapping[str, Any]) -> None:
        """Take what `saved` gave; a checkpoint of an earlier version may lack it."""

    @classmethod
    @abstractmethod
    def read(cls, options: Options, split: str) -> Any:
        """Read a split of the data set."""

    @classmethod
    def classes_of(cls, data: Any) -> tuple[str, ...]:
        """Return the class names of what `read` returned."""
        return tuple(data.classes)

    @classmethod
    def note(cls, data: Any) -> str:
        """Return what a user should know of what `read` returned."""
        return ""

    def batches(self, data: Dataset[Any], *, training: bool, size: int, **how: Any) -> DataLoader[Any]:
        """Load a data set in batches, each image's chance and place decided by the seed."""
        length = len(data)  # type: ignore[arg-type]  # all of ours have a length
        return DataLoader(
            data,
            batch_size=size,
            sampler=EpochSampler(length, seed=self.options.seed, training=training),
            drop_last=training and length >= self.options.batch,
            num_workers=self.options.workers,
            persistent_workers=self.options.workers > 0,
            pin_memory=self.options.accelerator != "cpu" and torch.cuda.is_available(),
            **how,
        )

    def noted(self, loss: Tensor, images: int) -> None:
        """Log the loss and the learning rate of a batch, to be averaged over the epoch and the devices."""
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("lr", rate, on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=images, sync_dist=True)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make dropout a function of the step: a resumed run has drawn fewer random numbers before it."""
        torch.manual_seed(mixed(self.options.seed, self.current_epoch, batch_idx, self.global_rank))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and the schedule, which moves at every step."""
        optimizer = _optimizer(self.options, self.network)
        total = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, lambda step: rate(self.options, step / max(total, 1)))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write beside the weights what they are of."""
        checkpoint[MARK] = {"options": self.options.plain(), "classes": list(self.classes), **self.saved()}


def rate(options: Options, progress: float) -> float:
    """Return the learning rate, as a part of the highest, at a point of the run from 0 to 1."""
    if progress < options.warmup:
        return max(progress / options.warmup, 1e-3)
    if options.schedule == "steps":
        return 0.5 ** sum(progress >= step for step in STEPS)
    return 0.5 + 0.5 * math.cos(math.pi * min((progress - options.warmup) / (1 - options.warmup), 1.0))


def normalized(images: Tensor) -> Tensor:
    """Bring images of bytes to about zero mean and unit variance, by the usual figures of ImageNet."""
    mean = images.new_tensor((0.485, 0.456, 0.406), dtype=torch.float32)[:, None, None]
    deviation = images.new_tensor((0.229, 0.224, 0.225), dtype=torch.float32)[:, None, None]
    return (images.float() / 255 - mean) / deviation


def _network(options: Options, decided: Mapping[str, Any], suggested: Mapping[str, Any]) -> nn.Module:
    """Build the network; what is suggested gives way to what the user says.

    Raises:
        FitError: If it cannot be built so.
    """
    own = dict(options.model_options)
    twice = sorted(set(decided) & set(own))
    if twice:
        raise FitError(f"model.{twice[0]} follows from the data or from another option; leave it out")
    try:
        return create(options.model, **decided, **{**suggested, **own})
    except (TypeError, OptionError) as error:
        raise FitError(f"{options.model} cannot be built with {own or 'these options'}: {error}") from error


def _optimizer(options: Options, network: nn.Module) -> Optimizer:
    """Build the optimizer; biases, norms and scales are not decayed."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups: Iterable[dict[str, Any]] = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if options.optimizer == "sgd":
        return SGD(groups, lr=options.lr, momentum=options.momentum)
    kind = AdamW if options.optimizer == "adamw" else Adam
    return kind(groups, lr=options.lr, betas=(options.momentum, options.beta2))
