"""CAB: two 3×3 convolutions through a narrow middle, then a gate on each channel.

Paper: Activating More Pixels in Image Super-Resolution Transformer (HAT), Chen et al., CVPR 2023, arXiv 2205.04437.
Code: XPixelGroup/HAT, hat/archs/hat_arch.py (Apache-2.0), read for parity only.
Differs: Nothing. HAT scales the block by 0.01 where it adds it; that factor belongs to HAB (`conv_scale`).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention


@register(
    role="mixer",
    family="convolution with channel gate",
    year=2023,
    formula="y = conv3(gelu(conv3(x))); y * sigmoid(W2 relu(W1 mean_HW(y)))",
    cost="18 * N * C * (C // compress) + 2 * C * (C // squeeze)",
    row=("compress", "squeeze"),
    growth="N",
)
class CAB(Attention):
    """Mix neighbours by a convolutional bottleneck and gate the result channel by channel.

    It contains no residual, so a graft adds it, as HAT does.

    Args:
        channels: Number of channels C.
        compress: How many times narrower the middle of the bottleneck is than C; at most C.
        squeeze: How many times narrower the hidden layer of the gate is than C; at most C.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``compress`` or ``squeeze`` leaves no channel.

    Example:
        >>> import torch
        >>> CAB(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, compress: int = 3, squeeze: int = 30) -> None:
        super().__init__(channels)
        leaves_channels("CAB", channels, compress=compress, squeeze=squeeze)
        self.compress = compress
        self.squeeze = squeeze
        self.conv1 = nn.Conv2d(channels, channels // compress, 3, padding=1)
        self.conv2 = nn.Conv2d(channels // compress, channels, 3, padding=1)
        self.gate1 = nn.Conv2d(channels, channels // squeeze, 1)
        self.gate2 = nn.Conv2d(channels // squeeze, channels, 1)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower the two ratios on maps narrower than their defaults."""
        return {name: channels for name, ratio in (("compress", 3), ("squeeze", 30)) if ratio > channels}

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated mixture."""
        self.check(x)
        y = self.gated(x)
        return y * self._channel_gate(y)

    def gated(self, x: Tensor) -> Tensor:
        """Return what the gate multiplies: the convolved map."""
        y: Tensor = self.conv2(F.gelu(self.conv1(x)))  # (B, C, H, W)
        return y

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate of the convolved map, ``(B, C, 1, 1)``."""
        return self._channel_gate(self.gated(x))

    def _channel_gate(self, y: Tensor) -> Tensor:
        pooled = y.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        gate: Tensor = self.gate2(self.gate1(pooled).relu()).sigmoid()  # (B, C, 1, 1)
        return gate


def leaves_channels(who: str, channels: int, **ratios: int) -> None:
    """Require ratios that leave at least one channel.

    Args:
        who: The module that is being built.
        channels: The number of channels they divide.
        **ratios: Option names and their values.

    Raises:
        OptionError: If one is above ``channels``.
    """
    positive(who, channels=channels, **ratios)
    for name, ratio in ratios.items():
        if ratio > channels:
            raise OptionError(f"{who} needs {name} of at most channels={channels}, got {ratio}; use {channels} or less")
