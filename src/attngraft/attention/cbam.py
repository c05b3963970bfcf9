"""CBAM: gate each channel by a small MLP over its mean and maximum, then each cell by a convolution over both.

Paper: CBAM: Convolutional Block Attention Module, Woo et al., ECCV 2018, arXiv 1807.06521.
Code: Jongchan/attention-module, MODELS/cbam.py (MIT), read for parity only.
Differs: The paper's equations write neither the biases of the MLP nor the batch norm of the spatial gate; both are in
    the authors' code and here, most circulated copies drop them: bias=False, norm="none". The class of that name in
    Ultralytics is another operator: one dense layer over the means, without MLP and without maxima. A maximum attained
    by several cells shares its gradient among them, where the reference gives it to one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attngraft._core.checks import one_of
from attngraft._core.registry import Disputed, register
from attngraft.attention._base import Attention
from attngraft.attention._gates import ChannelMLP, PlaneGate, fit_reduction, hidden_channels, shared_max, z_pool


@register(
    role="gate",
    family="channel and spatial gate",
    year=2018,
    formula="y = x * sigmoid(MLP(mean_HW(x)) + MLP(max_HW(x))); y * sigmoid(BN(conv_k([max_C(y); mean_C(y)])))",
    cost="4 * C * (C // reduction) + 2 * kernel_size**2 * N",
    row=("reduction", "kernel_size"),
    aliases=("CBAMBlock",),
    signatures=(("kernel_size",),),
    alias_defaults={
        "CBAMBlock": {
            "kernel_size": Disputed((7, 49), ", and those of 49 add their input again, which is not built here"),
            "bias": False,
            "norm": "none",
        },
        "Bottleneck_CBAM": {"bias": False, "norm": "none"},
    },
    growth="N",
)
class CBAM(Attention):
    """Gate the channels by their means and maxima, then the cells by theirs.

    In training the batch norm needs more than one cell in the batch: a single 1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        reduction: How many times narrower the hidden layer of the MLP is than C; at most C.
        kernel_size: Odd side of the spatial gate's convolution.
        bias: Whether both layers of the MLP have biases.
        spatial_bias: Whether the spatial gate's convolution has a bias, which a batch norm would cancel.
        norm: What follows that convolution, ``"batch"`` or ``"none"``.
        slope: What the MLP's ReLU multiplies negative values by; some copies have 0.1.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``reduction`` leaves no hidden channel, ``kernel_size`` is even, or ``norm`` is neither.

    Example:
        >>> import torch
        >>> CBAM(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    bias, spatial_bias, norm, slope = True, False, "batch", 0.0  # of those pickled before there was a choice

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        kernel_size: int = 7,
        bias: bool = True,
        spatial_bias: bool = False,
        norm: str = "batch",
        slope: float = 0.0,
    ) -> None:
        super().__init__(channels)
        one_of("CBAM", "norm", norm, ("batch", "none"))
        self.reduction = reduction
        self.kernel_size = kernel_size
        self.bias = bias
        self.spatial_bias = spatial_bias
        self.norm = norm
        self.slope = slope
        self.mlp = ChannelMLP(channels, hidden_channels("CBAM", channels, reduction), bias=bias, slope=slope)
        self.spatial = PlaneGate("CBAM", kernel_size, bias=spatial_bias, norm=norm == "batch")

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower ``reduction`` on maps narrower than its default."""
        return fit_reduction(channels, 16)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map gated twice."""
        self.check(x)
        x = x * self._channel_gate(x)
        spatial_gate: Tensor = self.spatial(z_pool(x, 1))  # (B, 1, H, W)
        return x * spatial_gate

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the product of both gates, ``(B, C, H, W)``."""
        channel_gate = self._channel_gate(x)
        return channel_gate * self.spatial(z_pool(x * channel_gate, 1))

    def _channel_gate(self, x: Tensor) -> Tensor:
        pooled = torch.stack((x.mean((2, 3)), shared_max(x, 2, 3)))  # (2, B, C)
        gate: Tensor = self.mlp(pooled).sum(0).sigmoid()  # (B, C)
        return gate[:, :, None, None]
