"""LSK: gate every value by two views of its surroundings, near and far, between which each cell chooses.

Paper: Large Selective Kernel Network for Remote Sensing Object Detection, Li et al., ICCV 2023, arXiv 2303.09030.
Code: zcablii/LSKNet (CC-BY-NC-4.0), figures only; written from the paper's equations.
Differs: The two planes that the choice is made from are stacked maximum first, the reference stacks the mean first:
    the order of two inputs of one convolution. A maximum attained by several channels shares its gradient among them.
    The projections, GELU and shortcut that the reference wraps around the block belong to its network and are not
    part of the module.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attngraft._core.checks import multiple_of
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import z_pool


@register(
    role="gate",
    family="large-kernel gate",
    year=2023,
    formula="x * P (s_1 * u + s_2 * v), u = P_1 DW_5 x, v = P_2 DW_7 (dilation 3) DW_5 x, "
    "[s_1; s_2] = sigmoid(conv_7([max_C; mean_C of [u; v]]))",
    cost="N * (74 * C + 3 * C**2 // 2 + 196)",
    growth="N",
    aliases=("LSKBlock", "LSKblock"),
)
class LSK(Attention):
    """Gate every value by a view whose reach, 5 or 23 cells, is chosen at each cell.

    Args:
        channels: Number of channels C, even.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If C is odd.

    Example:
        >>> import torch
        >>> LSK(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        multiple_of("LSK", 2, channels)
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.far = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.near_proj = nn.Conv2d(channels, channels // 2, 1)
        self.far_proj = nn.Conv2d(channels, channels // 2, 1)
        self.select = nn.Conv2d(2, 2, 7, padding=3)
        self.proj = nn.Conv2d(channels // 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        return x * self.gate_map(x)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate, ``(B, C, H, W)``; it has no bounds."""
        near = self.near(x)
        far = self.far_proj(self.far(near))  # (B, C / 2, H, W)
        near = self.near_proj(near)  # (B, C / 2, H, W)
        choice = self.select(z_pool(torch.cat((near, far), 1), 1)).sigmoid()  # (B, 2, H, W)
        gate: Tensor = self.proj(near * choice[:, :1] + far * choice[:, 1:])
        return gate
