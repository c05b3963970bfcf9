"""A mechanism under examination: a class that keeps the shape of a map, from the registry or from a user's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import attngraft.attention as zoo
from attngraft._core.errors import UnknownNameError
from attngraft._core.plugins import import_file
from attngraft._core.registry import fitted

NOISE = 0.1
"""How far weights are moved from where they start: gates that start at zero would hide what is behind them."""
SAME = ("input kept", "repeats")
"""What a check needs that compares two calls on one input."""


@dataclass(frozen=True)
class Subject:
    """A module class and the circumstances that it has to work in.

    Attributes:
        name: What it is called.
        cls: The class; its first argument is the number of channels.
        channels: Width of the maps it is examined on.
        options: Keyword arguments it is built with.
        folder: Folder of the file it came from, which every process that loads it needs on its path.
        largest: Height and width of the largest map it will see; 80 x 80 is P3 of a 640 px image.
        batch: Images in a training step.
    """

    name: str
    cls: type[nn.Module]
    channels: int = 64
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    largest: tuple[int, int] = (80, 80)
    batch: int = 16

    def fresh(self, channels: int | None = None) -> nn.Module:
        """Build the module as it starts, at a width."""
        width = self.channels if channels is None else channels
        return self.cls(width, **{**fitted(self.cls, width), **self.options})

    def shaken(self) -> nn.Module:
        """Build the module with weights moved from where they start."""
        module = self.fresh()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * NOISE)
        return module

    def map(self, height: int, width: int, batch: int = 2) -> Tensor:
        """Return a random map of the subject's width."""
        return torch.randn(batch, self.channels, height, width)


def subject(target: str | type[nn.Module], *, name: str = "", **circumstances: Any) -> Subject:
    """Find what to examine.

    Args:
        target: A registry name (``"eca"``), a class in a file (``"my/attention.py:MyAttention"``), or a class.
        name: What to call it; empty takes the target's.
        **circumstances: Fields of `Subject`.

    Raises:
        UnknownNameError: If the registry or the file has no such name.
        OptionError: If the file is not there, cannot be imported, or the class is no module.

    Example:
        >>> subject("eca", channels=128).fresh().kernel_size
        5
    """
    if not isinstance(target, str):
        return Subject(name or target.__name__, target, **circumstances)
    file, colon, class_name = target.rpartition(":")
    if not colon:
        record = zoo.mechanism(target)
        return Subject(name or record.name, record.cls, **circumstances)
    path = Path(file).resolve()
    found = getattr(import_file(path), class_name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        classes = [key for key, value in vars(import_file(path)).items() if isinstance(value, type)]
        raise UnknownNameError(f"module class in {path.name}", class_name, classes)
    return Subject(name or target, found, folder=path.parent, **circumstances)
