"""One training step outside a training run: Ultralytics' loss on generated objects, and the network as deployed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.cfg import get_cfg
from ultralytics.nn.modules import OBB, Classify, Pose

from attngraft._core.calls import in_place
from attngraft.yolo.devices import devices
from attngraft.yolo.model import YOLO
from attngraft.yolo.texts import class_embeddings, reads_texts


class TrainingLoss(nn.Module):
    """Forward of a model in training with Ultralytics' loss, on made-up objects: what a training step is made of.

    Args:
        model: Ultralytics' model; every parameter of it is set free to learn, as a training does.
        batch: Images at once.
        sides: Their height and width, in pixels.
        options: Ultralytics' training options.

    Shape:
        ``(batch, channels, height, width)``, the images -> ``()``
    """

    def __init__(self, model: Any, batch: int, sides: tuple[int, int], options: Mapping[str, Any]) -> None:
        super().__init__()
        model.args = host_arguments(options)
        model.nc = len(model.names)
        self.model = in_place(model, wanted=False).train().requires_grad_(True)
        self.made = training_batch(model, batch, sides)

    def forward(self, images: Tensor) -> Tensor:
        """Return the loss."""
        made = {key: value.to(images.device) for key, value in self.made.items()}
        loss, _ = self.model({**made, "img": images})
        summed: Tensor = loss.sum()
        return summed

    def step(self, images: Tensor) -> Callable[[], None]:
        """Return a function that does forward and backward."""
        return lambda: self(images).backward()


def step(recipe: str, options: Mapping[str, Any], channels: int | None = None) -> Callable[[], None]:
    """Return a function that does the forward and backward of one training step on made-up images.

    Args:
        recipe: What to train.
        options: Ultralytics' training options; of several devices the first is taken.
        channels: Of the images, as `network` takes them.

    Raises:
        OptionError: If the device is not here.
    """
    batch, side = max(int(options["batch"]), 1), int(options["imgsz"])
    device = devices("a training step", options.get("device"))[0]
    model = _taking(YOLO(recipe).model, channels)
    loss = TrainingLoss(model, batch, (side, side), options).to(device)
    return loss.step(torch.rand(batch, model.yaml.get("channels", 3), side, side, device=device))


def training_batch(model: Any, batch: int, sides: tuple[int, int]) -> dict[str, Tensor]:
    """Make up a batch without its images, one object in each, as Ultralytics' loss of a model's task takes it.

    Args:
        model: Ultralytics' model.
        batch: How many images.
        sides: Their height and width, in pixels.
    """
    made = detection_batch(batch, *sides)
    del made["img"]
    made["resized_shape"] = torch.tensor([sides] * batch)  # older releases look at it for rotated boxes
    head = model.model[-1]
    if isinstance(head, Classify):
        made["cls"] = torch.zeros(batch, dtype=torch.long)
    if isinstance(head, OBB):
        made["bboxes"] = torch.cat([made["bboxes"], torch.zeros(batch, 1)], 1)  # lying straight
    if isinstance(head, Pose):
        made["keypoints"] = torch.full((batch, *head.kpt_shape), 0.5)
    if reads_texts(model):
        made["txt_feats"] = class_embeddings(model, batch)
    return made


def detection_batch(batch: int, height: int, width: int | None = None) -> dict[str, Tensor]:
    """Make up a batch of images with one object each, as Ultralytics' loss takes it.

    Args:
        batch: How many images.
        height: Of an image, in pixels.
        width: Of an image; None for a square.
    """
    width = width or height
    return {
        "img": torch.rand(batch, 3, height, width),
        "batch_idx": torch.arange(batch, dtype=torch.float32),
        "cls": torch.zeros(batch, 1),
        "bboxes": torch.full((batch, 4), 0.5),
        "masks": torch.ones(batch, height // 4, width // 4),  # these three only segmenters look at
        "sem_masks": torch.zeros(batch, height // 4, width // 4),
        "semantic_mask": torch.zeros(batch, height, width, dtype=torch.long),
        "depth": torch.rand(batch, height, width) + 1,  # metres
    }


def host_arguments(options: Mapping[str, Any]) -> Any:
    """Return Ultralytics' training arguments, which its losses read."""
    return get_cfg(overrides=dict(options))


def network(recipe: str | Path, channels: int | None = None) -> nn.Module:
    """Return a model as it is deployed: fused, in evaluation mode, on the CPU, in full precision.

    Args:
        recipe: A recipe or a checkpoint.
        channels: Of the images that it is to take; None takes what it has. Where it has others, it is rebuilt as
            a training run does, and its weights are random.
    """
    model = _taking(YOLO(recipe).model, channels)
    fused: nn.Module = model.float().fuse(verbose=False).eval()
    return in_place(fused, wanted=True)


def _taking(model: Any, channels: int | None) -> Any:
    """Return the model, or one of its kind that takes images of other channels."""
    if channels is None or channels == model.yaml.get("channels", 3):
        return model
    return type(model)({**model.yaml, "channels": channels}, ch=channels, verbose=False)


def parameters(recipe: str) -> int:
    """Count the parameters of a recipe's model, not fused."""
    return sum(p.numel() for p in YOLO(recipe).model.parameters())
