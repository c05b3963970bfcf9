"""What a detector asks of a classifier: the maps of its stages."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Stages(Protocol):
    """A classifier whose stages can be read, so that a pyramid can stand on them.

    Built with ``num_classes=0`` it has no classifier, and no parameter that `stages` leaves unused.

    Attributes:
        stage_channels: Channels of each stage's map.
        stage_strides: Pixels of the picture to a cell of each stage's map.
    """

    stage_channels: tuple[int, ...]
    stage_strides: tuple[int, ...]

    def stages(self, x: Tensor) -> list[Tensor]:
        """Return the map of each stage, the finest first."""
        ...
