"""The convolution that detectors are made of."""

from __future__ import annotations

from torch import nn


def conv_norm(in_channels: int, out_channels: int, kernel_size: int = 1, *, groups: int = 1) -> nn.Sequential:
    """Build a convolution without bias that keeps the map's size, and the batch norm that follows it.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        kernel_size: Odd side of the filter.
        groups: Number of groups; ``in_channels`` makes it depth-wise.
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    )
