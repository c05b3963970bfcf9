"""Classification: a folder a class; top-1 and top-5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from torchvision import tv_tensors
from torchvision.transforms import v2

from attngraft._core.errors import DataError
from attngraft.fit.data.folders import ClassSet, read_classes
from attngraft.fit.data.images import read_bytes
from attngraft.fit.data.loading import Key, chance
from attngraft.fit.options import Options
from attngraft.fit.tasks.learner import Learner, normalized
from attngraft.models import record

SHOWN = 0.875
"""Part of the side that the centre crop of validation keeps, as is usual for ImageNet."""


class LabelledImages(Dataset[tuple[Tensor, int]]):
    """Images as bytes ``(3, side, side)`` and their class indices."""

    def __init__(self, data: ClassSet, transform: v2.Transform, seed: int) -> None:
        self.data = data
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.data.paths)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        with chance(self.seed, key):
            return self.transform(load(self.data.paths[key[1]])), self.data.labels[key[1]]


class Classifier(Learner):
    """Train a network that gives a logit for each class."""

    monitor = "top1"
    fractions = ("top1", "top5")
    file = "predictions.csv"

    def __init__(self, options: Options, classes: Sequence[str] = ()) -> None:
        if len(classes) < 2:
            raise DataError(f"classification needs two classes or more, and {options.data} has {len(classes)}")
        super().__init__(options, classes)
        self.loss = nn.CrossEntropyLoss(label_smoothing=options.label_smoothing)
        self.top1 = MulticlassAccuracy(len(classes), average="micro", validate_args=False)
        self.top5 = MulticlassAccuracy(len(classes), average="micro", top_k=min(5, len(classes)), validate_args=False)
        self.val_loss = MeanMetric(nan_strategy="disable")

    @classmethod
    def read(cls, options: Options, split: str) -> ClassSet:
        """Read a split of the data set."""
        return read_classes(Path(options.data), split)

    def network_options(self) -> dict[str, Any]:
        """Return the number of classes."""
        return {"num_classes": len(self.classes)}

    def network_suggestions(self) -> dict[str, Any]:
        """Return the size that position tables are made for, where the network has any."""
        return {"image_size": self.options.imgsz} if "image_size" in record(self.options.model).options else {}

    def loader(self, data: ClassSet, *, training: bool, parts: int) -> DataLoader[Any]:
        """Load a split."""
        transform = augmented(self.options) if training else plain(self.options.imgsz)
        samples = LabelledImages(data, transform, self.options.seed)
        return self.batches(samples, training=training, size=self.options.batch // parts)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        loss: Tensor = self.loss(self.network(normalized(images)), labels)
        self.noted(loss, len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Measure a batch."""
        images, labels = batch
        logits = self.network(normalized(images)).float()
        self.top1(logits, labels)
        self.top5(logits, labels)
        self.val_loss(F.cross_entropy(logits, labels, reduction="none"))  # its weight= does nothing without NaN checks
        self.log_dict({"val_loss": self.val_loss, "top1": self.top1, "top5": self.top5}, on_epoch=True)

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor]) -> list[list[tuple[str, float]]]:
        """Return the most likely classes of each image, five at most, with their probabilities."""
        prepare = plain(self.options.imgsz)
        batch = torch.stack([prepare(tv_tensors.Image(image)) for image in images]).to(self.device)
        found = self.network(normalized(batch)).float().softmax(1).topk(min(5, len(self.classes)))
        return [
            [(self.classes[i], p) for i, p in zip(indices, values, strict=True)]
            for indices, values in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]

    def describe(self, result: list[tuple[str, float]]) -> str:
        """Return classes and percentages."""
        return ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in result)

    def rows(self, key: int | str, path: str, result: list[tuple[str, float]]) -> list[dict[str, Any]]:
        """Return a row for each class."""
        return [
            {"image": path, "rank": rank, "class": name, "probability": probability}
            for rank, (name, probability) in enumerate(result, 1)
        ]


def load(path: Path) -> tv_tensors.Image:
    """Read an image as bytes ``(3, H, W)``."""
    return tv_tensors.Image(read_bytes(path).contiguous())


def augmented(options: Options) -> v2.Transform:
    """Return what happens to training images."""
    steps: list[v2.Transform] = [
        v2.RandomResizedCrop(options.imgsz, scale=(options.crop, 1.0), antialias=True),
        v2.RandomHorizontalFlip(0.5 * options.flip),
    ]
    if options.randaugment:
        steps.append(v2.RandAugment(num_ops=2, magnitude=options.randaugment))
    return v2.Compose([*steps, v2.ToPureTensor()])


def plain(side: int) -> v2.Transform:
    """Return what happens to images that are measured: the centre, without chance."""
    return v2.Compose([v2.Resize(round(side / SHOWN), antialias=True), v2.CenterCrop(side), v2.ToPureTensor()])
