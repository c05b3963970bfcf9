"""Noop: nothing, as a mechanism; the control that shows what the graft itself does.

Paper: None; it is a control.
Code: None.
Differs: Nothing.
"""

from __future__ import annotations

from torch import Tensor

from attngraft._core.registry import register
from attngraft.attention._base import Attention


@register(role="gate", family="control", year=2026, formula="x", cost="0", growth="N")
class Noop(Attention):
    """Return the map as it came.

    A graft of it has gamma and the whole code path of a graft, and stays the identity throughout training. A study
    that finds a difference between it and the stock model has found its own noise.

    Args:
        channels: Number of channels C.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Example:
        >>> import torch
        >>> x = torch.randn(2, 8, 7, 5)
        >>> Noop(8)(x) is x
        True
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        self.check(x)
        return x

    def gate_map(self, x: Tensor) -> Tensor:
        """Return ones, ``(1, 1, 1, 1)``: what leaves every value as it is."""
        return x.new_ones(1, 1, 1, 1)
