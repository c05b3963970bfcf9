"""What a detector asks of a classifier: the maps of its stages."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Stages(Protocol):
    """A classifier whose stages can be read, so that a pyramid can stand on them.

    Built with ``num_classes=0`` it has no classifier.

    Attributes:
        channels: Channels of each stage's map, from fine to coarse.
        strides: Pixels of the image to a cell of each.
        in_channels: Channels of the image.
        num_classes: Number of classes.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    in_channels: int
    num_classes: int

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the map of each stage, from fine to coarse."""
        ...
