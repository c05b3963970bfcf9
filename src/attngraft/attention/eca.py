"""ECA: gate each channel by a short convolution over its neighbours' means.

Paper: ECA-Net: Efficient Channel Attention for Deep CNNs, Wang et al., CVPR 2020, arXiv 1910.03151.
Code: BangguWu/ECANet, models/eca_module.py (MIT), read for parity only.
Differs: The reference code defaults to kernel_size=3; here the default is the paper's adaptive size.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from attngraft._core.checks import odd
from attngraft._core.registry import register
from attngraft.attention._base import Attention


@register(
    role="gate",
    family="channel gate",
    year=2020,
    formula="x * sigmoid(conv1d_k(mean_HW(x)))",
    cost="kernel_size * C",
    row=("kernel_size",),
    aliases=("ECAAttention", "ECALayer", "eca_layer", "ECABlock", "EfficientChannelAttention"),
    alias_defaults={"ECAAttention": {"kernel_size": 3}, "eca_layer": {"kernel_size": 3}},
    growth="N",
)
class ECA(Attention):
    """Gate each channel by a 1-D convolution over the means of its neighbours.

    Args:
        channels: Number of channels C.
        kernel_size: Odd number of neighbouring channels looked at; None takes the paper's adaptive size,
            the odd number at or above ``(log2 C + 1) / 2``.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``kernel_size`` is even or below 1.

    Example:
        >>> import torch
        >>> gate = ECA(256)
        >>> gate.kernel_size, gate(torch.randn(2, 256, 7, 5)).shape
        (5, torch.Size([2, 256, 7, 5]))
    """

    def __init__(self, channels: int, *, kernel_size: int | None = None) -> None:
        super().__init__(channels)
        self.kernel_size = adaptive_kernel_size(channels) if kernel_size is None else kernel_size
        odd("ECA", kernel_size=self.kernel_size)
        self.conv = nn.Conv1d(1, 1, self.kernel_size, padding=self.kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        return x * self.gate_map(x)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate, ``(B, C, 1, 1)``."""
        pooled = x.mean((2, 3)).unsqueeze(1)  # (B, 1, C)
        gate: Tensor = self.conv(pooled).sigmoid()  # (B, 1, C)
        return gate.transpose(1, 2).unsqueeze(3)


def adaptive_kernel_size(channels: int, gamma: int = 2, offset: int = 1) -> int:
    """Return ECA's kernel size for a width: ``|log2 C + offset| / gamma`` cut to an integer, then made odd.

    Example:
        >>> [adaptive_kernel_size(c) for c in (16, 64, 128, 1024, 2048)]
        [3, 3, 5, 5, 7]
    """
    size = int(abs(math.log2(channels) + offset) / gamma)
    return size if size % 2 else size + 1
