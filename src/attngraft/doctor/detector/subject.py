"""A whole detector under examination: a recipe, a YAML or a checkpoint, opened once and copied for every check."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import attngraft.attention as zoo
from attngraft._core.calls import mode, tensors
from attngraft._core.sizes import round_up
from attngraft.doctor.mechanism.subject import NOISE, Subject
from attngraft.yolo import YOLO
from attngraft.yolo.grafting import Graft
from attngraft.yolo.imgsz import largest_stride
from attngraft.yolo.step import TrainingLoss
from attngraft.yolo.texts import embed_classes

SAME = ("same seed",)
"""What a check needs that compares two runs of a detector."""
UNTRAINED = -1
"""Epoch of a checkpoint that no training wrote, or that one finished."""
LEAST_VARIANCE = 0.2
"""Part of a layer's mean variance that each of its channels gets on top, in an untrained detector."""


@dataclass(frozen=True)
class DetectorSubject:
    """A detector and the circumstances that it has to work in.

    Attributes:
        recipe: What to open.
        imgsz: Side of the images in training, in pixels, as asked for.
        batch: Images in a training step.
        data: The data file of Ultralytics, where there is one.
    """

    recipe: str
    imgsz: int = 640
    batch: int = 16
    data: str | None = None

    @cached_property
    def opened(self) -> YOLO:
        """The object of Ultralytics, as it starts."""
        return YOLO(self.recipe)

    @cached_property
    def mechanisms(self) -> Mapping[str, nn.Module]:
        """Every module of the registry in it, by path."""
        classes = tuple(record.cls for record in zoo.mechanisms().values())
        return {path: part for path, part in self.opened.model.named_modules() if isinstance(part, classes)}

    @cached_property
    def stride(self) -> int:
        """What the sides of images are multiples of."""
        return largest_stride(self.opened.model)

    @property
    def side(self) -> int:
        """Side of the images in training, rounded up as Ultralytics does for all but classifiers."""
        if self.task == "classify":
            return self.imgsz
        return round_up(self.imgsz, self.stride)

    @property
    def small(self) -> int:
        """Side of the images where any size will do."""
        return 3 * self.stride

    @property
    def task(self) -> str:
        """The task, by the word of Ultralytics."""
        return str(self.opened.task)

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.opened.model.yaml.get("channels", 3))

    def fresh(self) -> Any:
        """Copy the model as it starts, every parameter free to learn."""
        model = copy.deepcopy(self.opened.model).float()
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        embed_classes(model)
        return model

    def perturbed(self) -> Any:
        """Copy the model with weights and statistics moved from where they start, so that every number shows.

        A gate at zero hides what is behind it, and an untrained detector gives the same boxes whatever it sees.
        """
        return copy.deepcopy(self._perturbed)

    @cached_property
    def _perturbed(self) -> Any:
        model = self.fresh()
        with torch.no_grad():
            for parameter in grafted(model, self.mechanisms).values():
                parameter.add_(torch.randn_like(parameter) * NOISE)
            if not self.opened.ckpt or self.opened.ckpt.get("epoch") == UNTRAINED:
                _wake(model, self.images(batch=8))
        return model

    def images(self, height: int = 0, width: int = 0, batch: int = 2) -> Tensor:
        """Return random images: clouds, since pure noise looks alike to every deep layer.

        Args:
            height: In pixels; 0 takes `small`.
            width: In pixels; 0 takes `small`.
            batch: How many.
        """
        size = (height or self.small, width or self.small)
        clouds = F.interpolate(torch.rand(batch, self.channels, 5, 5), size, mode="bilinear")
        return 0.8 * clouds + 0.2 * torch.rand(batch, self.channels, *size)

    def shapes(self) -> Mapping[str, torch.Size]:
        """Return the shape of the map that each mechanism gets, of one image of `small`."""
        found: dict[str, torch.Size] = {}

        def note(path: str) -> Any:
            return lambda _, inputs, __: found.__setitem__(path, inputs[0].shape)

        model = self.fresh()
        for path in self.mechanisms:
            model.get_submodule(path).register_forward_hook(note(path))
        predict(model, self.images(batch=1))
        return found


@dataclass(frozen=True)
class Built(Subject):
    """A mechanism as it stands in a detector, for the checks on mechanisms."""

    module: nn.Module = field(default_factory=nn.Identity)

    def fresh(self, channels: int | None = None) -> nn.Module:
        """Copy it; its width is given."""
        return copy.deepcopy(self.module)


def _wake(model: Any, x: Tensor) -> None:
    """Give an untrained detector statistics of images, and a head whose outputs vary by about 1 over them.

    A channel that hardly varies over few images would be divided by nearly nothing, and so would its rounding: then two
    runtimes that are both right seem to disagree by pixels.
    """
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with mode(model, train=True):
        model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        if norm.running_var is not None:
            norm.running_var.add_(LEAST_VARIANCE * norm.running_var.mean())
    last = [part for part in model.model[-1].modules() if isinstance(part, nn.Conv2d)]
    spread: dict[nn.Module, float] = {}
    hooks = [part.register_forward_hook(lambda part, _, y: spread.update({part: float(y.std())})) for part in last]
    predict(model, x)
    for hook in hooks:
        hook.remove()
    for part in last:
        if part.bias is not None:
            part.weight.div_(spread.get(part) or 1.0)
            part.bias.copy_(torch.randn_like(part.bias))


def graft_prefixes(model: nn.Module, mechanisms: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """Return how the names of tensors begin that we put into a model: of mechanisms, and the gates of their grafts."""
    grafts = (path for path, part in model.named_modules() if isinstance(part, Graft))
    return tuple(f"{path}." for path in (*mechanisms, *grafts))


def grafted(model: nn.Module, mechanisms: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Return the parameters that we put into a model."""
    ours = graft_prefixes(model, mechanisms)
    return {name: p for name, p in model.named_parameters() if name.startswith(ours)}


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Return the first output of an inference: boxes and scores, or the scores of a classifier."""
    with mode(model, train=False), torch.no_grad():
        return tensors(model(x))[0]


def loss(subject: DetectorSubject, model: Any, batch: int = 2) -> Tensor:
    """Return the loss of Ultralytics on generated images, with the model in training."""
    images = subject.images(batch=batch)
    total: Tensor = TrainingLoss(model, batch, (subject.small, subject.small), {})(images)
    return total
