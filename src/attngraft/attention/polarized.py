"""Polarized self-attention: gate channels by a spatially pooled vector, and cells by a channel-pooled map.

Paper: Polarized Self-Attention: Towards High-quality Pixel-wise Regression, Liu et al., 2021, arXiv 2107.00782.
Code: DeLightCMU/PSA, semantic-segmentation/network/PSA.py (Apache-2.0) and xmu-xiaoma666/External-Attention-pytorch,
    model/attention/PolarizedSelfAttention.py (MIT), read for parity only.
Differs: The default is the paper's equations, which the authors' code does not compute. form="official" gives the code:
    a softmax over the cells inside the spatial gate, which leaves it near 0.5 everywhere; projections without biases;
    no LN in the parallel order, and a narrow hidden layer within W_z in the sequential. Projections whose
    result is only pooled or dotted are applied to the pooled vector instead, which is exact.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft._core.checks import is_as_built, is_tracing, one_of, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention


@register(
    name="polarized",
    role="gate",
    family="channel and spatial gate",
    year=2021,
    formula="x * A_ch + x * A_sp, A_ch = sigmoid(LN(W_z W_v x softmax_HW(w_q x))), "
    "A_sp = sigmoid(softmax_C(mean_HW(W_q x))^T W_v x)",
    cost="3*C*N + 2*C**2",
    growth="N",
    aliases=("ParallelPolarizedSelfAttention",),
)
class PolarizedSelfAttention(Attention):
    """Gate channels and cells, each by attention that collapses the other axis.

    The bias of ``channel_q`` cancels in its softmax: it is kept, as in circulated code, and never learns.

    Args:
        channels: Number of channels C; even.
        order: "parallel" adds the two gated maps, so that the output reaches twice the input; "sequential" gates the
            channels first and derives the spatial gate from the result.
        form: "paper" for the equations, "official" for what the authors' code computes.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``channels`` is odd, or below 8 for the official sequential form.

    Example:
        >>> import torch
        >>> PolarizedSelfAttention(64, order="sequential")(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, order: str = "parallel", form: str = "paper") -> None:
        super().__init__(channels)
        who = "PolarizedSelfAttention"
        positive(who, channels=channels)
        one_of(who, "order", order, ("parallel", "sequential"))
        one_of(who, "form", form, ("paper", "official"))
        if channels % 2:
            raise OptionError(f"{who} needs an even number of channels, got {channels}; use {channels + 1}, say")
        self.order = order
        self.form = form
        half, biased = channels // 2, form == "paper"
        self.channel_q = nn.Linear(channels, 1, bias=biased)
        self.channel_v = nn.Linear(channels, half, bias=biased)
        self.channel_z = self._channel_z()
        self.spatial_q = nn.Linear(channels, half, bias=biased)
        self.spatial_v = nn.Linear(channels, half, bias=biased)
        if form == "official":
            for layer in (self.channel_q, self.channel_v, self.spatial_q, self.spatial_v):
                nn.init.kaiming_normal_(layer.weight)

    def _channel_z(self) -> nn.Module:
        """Build what leads from C/2 pooled values to C channel logits."""
        C, half, narrow = self.channels, self.channels // 2, self.channels // 8
        if self.form == "paper":
            return nn.Sequential(nn.Linear(half, C), nn.LayerNorm(C))
        if self.order == "parallel":
            return nn.Linear(half, C, bias=False)
        if narrow < 1:
            raise OptionError(
                f"{type(self).__name__} needs 8 channels or more for form='official' with order='sequential', got {C}; "
                "use form='paper' on so narrow a map"
            )
        return nn.Sequential(nn.Linear(half, narrow), nn.LayerNorm(narrow), nn.ReLU(), nn.Linear(narrow, C))

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        channel_gate = self.channel_gate(x)
        if self.order == "parallel":
            return x * (channel_gate + self.spatial_gate(x))
        gated = x * channel_gate
        return gated * self.spatial_gate(gated)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the sum (parallel) or the product (sequential) of both gates, ``(B, C, H, W)``."""
        channel_gate = self.channel_gate(x)
        if self.order == "parallel":
            return channel_gate + self.spatial_gate(x)
        return channel_gate * self.spatial_gate(x * channel_gate)

    def channel_gate(self, x: Tensor) -> Tensor:
        """Return one weight a channel, ``(B, C, 1, 1)``."""
        cells = x.flatten(2)  # (B, C, N)
        attention = _project(self.channel_q, cells).softmax(2)  # (B, 1, N)
        pooled = (cells @ attention.transpose(1, 2)).squeeze(2)  # (B, C); the weights sum to 1, so W_v may come after
        gate: Tensor = self.channel_z(self.channel_v(pooled)).sigmoid()  # (B, C)
        return gate[:, :, None, None]

    def spatial_gate(self, x: Tensor) -> Tensor:
        """Return one weight a cell, ``(B, 1, H, W)``."""
        cells = x.flatten(2)  # (B, C, N)
        query: Tensor = self.spatial_q(x.mean((2, 3))).unsqueeze(1)  # (B, 1, C/2)
        if self.form == "official" and self.order == "sequential":
            logits = query @ _project(self.spatial_v, cells).softmax(2)  # (B, 1, N)
        elif self.form == "official":
            logits = _weighted_sum(query, self.spatial_v, cells).softmax(2)  # (B, 1, N)
        else:
            logits = _weighted_sum(query.softmax(2), self.spatial_v, cells)  # (B, 1, N)
        return torch.unflatten(logits, 2, x.shape[2:]).sigmoid()  # (B, 1, H, W)

    def macs(self, height: int, width: int) -> int:
        """Count the multiply-adds of one image; the official sequential form needs its values at every cell."""
        if (self.form, self.order) != ("official", "sequential"):
            return super().macs(height, width)
        C, half, narrow, N = self.channels, self.channels // 2, self.channels // 8, height * width
        vectors = 2 * half * C + narrow * (half + C)
        return (2 * C + half * C + half) * N + vectors


def _project(layer: nn.Module, cells: Tensor) -> Tensor:
    """Return what a linear layer makes of every cell, ``(B, c, N)``, of cells ``(B, C, N)``."""
    if is_as_built(layer, nn.Linear):
        if is_tracing():  # a convolution is quantized; NNCF takes a bias behind weights in front for one of the cells
            return F.conv1d(cells, layer.weight.unsqueeze(2), layer.bias)
        projected = torch.matmul(layer.weight, cells)
        return projected if layer.bias is None else projected + layer.bias[:, None]
    called: Tensor = layer(cells.transpose(1, 2))
    return called.transpose(1, 2)


def _weighted_sum(query: Tensor, layer: nn.Module, cells: Tensor) -> Tensor:
    """Return the sum of a linear layer's outputs at every cell, weighted by ``(B, 1, c)``, without making them."""
    if not is_as_built(layer, nn.Linear):
        return query @ _project(layer, cells)
    logits = query @ layer.weight @ cells  # (B, 1, N)
    return logits if layer.bias is None else logits + (query * layer.bias).sum(2, keepdim=True)
