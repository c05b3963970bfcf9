"""TripletAttention: the mean of three gates, one over each plane of the channel, height and width axes.

Paper: Rotate to Attend: Convolutional Triplet Attention Module, Misra et al., WACV 2021, arXiv 2010.03045.
Code: landskape-ai/triplet-attention, MODELS/triplet_attention.py (MIT), read for parity only.
Differs: Nothing in the output. The gates are averaged before they meet the map, which is the same sum, and a maximum
    attained by several values shares its gradient among them, where the reference gives it to one.
"""

from __future__ import annotations

from torch import Tensor

from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import PlaneGate, z_pool


@register(
    name="triplet",
    role="gate",
    family="channel and spatial gate",
    year=2021,
    formula="x * mean over the planes (H, W), (C, W), (H, C) of sigmoid(BN(conv_k([max; mean] over the third axis)))",
    cost="2 * kernel_size**2 * (H * W + C * W + H * C)",
    row=("kernel_size",),
    signatures=(("off",),),
    growth="N",
)
class TripletAttention(Attention):
    """Gate each value by its column of channels, of rows and of columns at once.

    In training the batch norm needs more than one cell in the batch: a single 1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        kernel_size: Odd side of the three convolutions.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``kernel_size`` is even or below 1.

    Example:
        >>> import torch
        >>> TripletAttention(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, kernel_size: int = 7) -> None:
        super().__init__(channels)
        self.kernel_size = kernel_size
        self.height_width = PlaneGate("TripletAttention", kernel_size)
        self.channel_width = PlaneGate("TripletAttention", kernel_size)
        self.height_channel = PlaneGate("TripletAttention", kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        return x * self.gate_map(x)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the mean of the three gates, ``(B, C, H, W)``."""
        hw: Tensor = self.height_width(z_pool(x, 1))  # (B, 1, H, W)
        cw: Tensor = self.channel_width(z_pool(x, 2)).transpose(1, 2)  # (B, C, 1, W)
        hc: Tensor = self.height_channel(z_pool(x, 3).transpose(2, 3))  # (B, 1, H, C)
        ch = hc.permute(0, 3, 2, 1)  # (B, C, H, 1)
        return cw / 3 + ch / 3 + hw / 3
