"""CPCA: gate channels by their means and maxima, then every value by depth-wise convolutions of many shapes.

Paper: Channel prior convolutional attention for medical image segmentation, Huang et al., 2024, arXiv 2306.05196.
Code: Cuthbert-Huang/CPCANet, CPCANet/nnunet/network_architecture/CPCANet.py (Apache-2.0), read for parity only.
Differs: The authors' code, the default here and everywhere, applies the one 1x1 convolution three times: before (with
    GELU), on the spatial logits and after; the paper's equations use it once, on the logits. The code adds the
    sigmoids of means and maxima, so its channel gate reaches 2; the paper takes the sigmoid of their sum.
    form="paper" is the equations. A maximum attained by several cells shares its gradient among them, where the code
    gives it to one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import one_of
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import ChannelMLP, fit_reduction, hidden_channels, shared_max
from attngraft.attention._precision import through

STRIP_SIZES = (7, 11, 21)


@register(
    role="mixer",
    family="channel and spatial gate",
    year=2024,
    formula="u = gelu(P x); u' = u * (sigmoid(MLP(mean(u))) + sigmoid(MLP(max(u)))); "
    "P (u' * P (z + sum_k DW_kx1 DW_1xk z)), z = DW_5x5 u', k in 7, 11, 21",
    cost="(projections * C**2 + 103 * C) * N + 4 * C * (C // reduction)",
    row=("reduction",),
    aliases=("CPCABlock",),
    growth="N",
)
class CPCA(Attention):
    """Gate channels, then every value by its surroundings, between projections.

    The default form ends in a projection and is no rescaled input: the authors' network adds it to what came in, and so
    does a graft.

    Args:
        channels: Number of channels C.
        reduction: How many times narrower the hidden layer of the MLP is than C; at most C.
        form: "code" as the authors' network has it, or "paper" as its equations say.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``reduction`` leaves no hidden channel, or there is no such ``form``.

    Example:
        >>> import torch
        >>> CPCA(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, reduction: int = 4, form: str = "code") -> None:
        super().__init__(channels)
        one_of("CPCA", "form", form, ("code", "paper"))
        self.reduction = reduction
        self.form = form
        self.projections = 3 if form == "code" else 1
        self.mlp = ChannelMLP(channels, hidden_channels("CPCA", channels, reduction))
        self.proj = nn.Conv2d(channels, channels, 1)
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, (1, k), padding=(0, k // 2), groups=channels),
                nn.Conv2d(channels, channels, (k, 1), padding=(k // 2, 0), groups=channels),
            )
            for k in STRIP_SIZES
        )

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower ``reduction`` on maps narrower than its default."""
        return fit_reduction(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined map."""
        self.check(x)
        u = self.gated(x)
        u = u * self._channel_gate(u)
        gate = self._spatial_gate(u)
        return through(nn.Identity() if self.form == "paper" else self.proj, u, gate)

    def gated(self, x: Tensor) -> Tensor:
        """Return what the gate multiplies: the input, or in the code's form its projection, projected again after."""
        return x if self.form == "paper" else F.gelu(self.proj(x))

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the product of both gates, ``(B, C, H, W)``; the spatial one has no bounds."""
        u = self.gated(x)
        channel_gate = self._channel_gate(u)
        return channel_gate * self._spatial_gate(u * channel_gate)

    def _spatial_gate(self, x: Tensor) -> Tensor:
        local = self.local(x)
        gate: Tensor = self.proj(sum((strip(local) for strip in self.strips), local))
        return gate

    def _channel_gate(self, x: Tensor) -> Tensor:
        logits = self.mlp(torch.stack((x.mean((2, 3)), shared_max(x, 2, 3))))  # (2, B, C)
        gate: Tensor = logits.sum(0).sigmoid() if self.form == "paper" else logits.sigmoid().sum(0)
        return gate[:, :, None, None]
