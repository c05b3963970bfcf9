"""LSKA: gate every value by a large depth-wise kernel that is split into strips, dense and dilated.

Paper: Large Separable Kernel Attention: Rethinking the Large Kernel Attention Design in CNN, Lau et al., Expert
    Systems with Applications 2024, arXiv 2309.01439.
Code: StevenLauHKHK/Large-Separable-Kernel-Attention, models/van.py (Apache-2.0), read for parity only.
Differs: Nothing. The gate has no sigmoid, in the paper too. The projections, GELU and shortcut that the reference
    wraps around it belong to its network VAN and are not part of the module; nor are they in circulated copies.
"""

from __future__ import annotations

from torch import Tensor, nn

from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention

PARTS = {7: (3, 3, 2), 11: (3, 5, 2), 23: (5, 7, 3), 35: (5, 11, 3), 41: (5, 13, 3), 53: (5, 17, 3)}
"""Dense strip, dilated strip and dilation that make up each kernel size: dense + dilation * (dilated - 1) cells."""


@register(
    role="gate",
    family="large-kernel gate",
    year=2023,
    formula="x * P (DW_kx1 DW_1xk (dilated) DW_jx1 DW_1xj x)",
    cost="C * N * (C + 2 * dense_size + 2 * dilated_size)",
    row=("kernel_size",),
    growth="N",
)
class LSKA(Attention):
    """Gate every value by a projected large-kernel view of its surroundings, without a sigmoid.

    Args:
        channels: Number of channels C.
        kernel_size: Side of the square seen by each cell: 7, 11, 23, 35, 41 or 53.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``kernel_size`` is not one of the six.

    Example:
        >>> import torch
        >>> LSKA(64, kernel_size=23)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, kernel_size: int = 7) -> None:
        super().__init__(channels)
        if kernel_size not in PARTS:
            raise OptionError(f"LSKA needs kernel_size to be one of {', '.join(map(str, PARTS))}, got {kernel_size!r}")
        self.kernel_size = kernel_size
        self.dense_size, self.dilated_size, dilation = PARTS[kernel_size]
        self.strips = nn.Sequential(
            *_strip_pair(channels, self.dense_size, 1), *_strip_pair(channels, self.dilated_size, dilation)
        )
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        return x * self.gate_map(x)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate, ``(B, C, H, W)``; it has no bounds."""
        gate: Tensor = self.proj(self.strips(x))
        return gate


def _strip_pair(channels: int, size: int, dilation: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Build the horizontal and the vertical depth-wise strip of one size; both keep the map's size."""
    reach = dilation * (size // 2)
    return (
        nn.Conv2d(channels, channels, (1, size), padding=(0, reach), dilation=(1, dilation), groups=channels),
        nn.Conv2d(channels, channels, (size, 1), padding=(reach, 0), dilation=(dilation, 1), groups=channels),
    )
