"""EMA: gate each cell by two branches, a pair of strip gates and a 3x3 convolution, that weigh each other's channels.

Paper: Efficient Multi-Scale Attention Module with Cross-Spatial Learning, Ouyang et al., ICASSP 2023, arXiv 2305.13563.
Code: YOLOonMe/EMA-attention-module, EMA_attention_module (no licence), read for parity only.
Differs: groups is 8, as circulated for detectors, where the authors' default is 32, which leaves 2 channels a group on
    the 64-channel maps of small detectors; the numbers are theirs otherwise, by cheaper algebra. The mean of an
    instance-normalised channel is its bias, so the weights that the first branch gives are the same for every image:
    a property of the paper's module that is kept.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft._core.checks import divides, is_as_built, is_tracing, largest_divisor
from attngraft._core.registry import register
from attngraft.attention._base import Attention


@register(
    role="gate",
    family="spatial gate",
    year=2023,
    formula="x * sigmoid(softmax(mean x1)^T x2 + softmax(mean x2)^T x1) in each group, "
    "x1 = instance_norm(x * sigmoid(f(mean_W x)) * sigmoid(f(mean_H x))), x2 = conv3x3(x)",
    cost="C*(C//groups)*(H + W) + 10*C*N + 9*(C//groups)*(C + C//groups)",
    row=("groups",),
    aliases=("EMAAttention", "EMA_attention"),
    growth="N",
)
class EMA(Attention):
    """Gate the cells of each group of channels by cross-spatial attention.

    All groups share one set of weights. The 3x3 convolution is not made in full: it is needed only as a weighted sum
    of its channels, for which the filters are summed first, and as its mean, which follows from means over the map and
    its borders. It is where it or the norm was changed after it was built, by pruning, a hook or an adapter.

    Args:
        channels: Number of channels C.
        groups: Number of groups; divides C.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``groups`` does not divide ``channels``.

    Example:
        >>> import torch
        >>> EMA(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, groups: int = 8) -> None:
        super().__init__(channels)
        divides("EMA", "groups", groups, channels)
        self.groups = groups
        n = channels // groups
        self.conv1x1 = nn.Conv2d(n, n, 1)
        self.conv3x3 = nn.Conv2d(n, n, 3, padding=1)
        self.gn = nn.GroupNorm(n, n)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower ``groups`` to a divisor of C that leaves two channels or more in a group."""
        groups = largest_divisor(channels, min(8, max(1, channels // 2)))
        return {} if groups == 8 else {"groups": groups}

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        grouped = x.reshape(-1, self.channels // self.groups, *x.shape[2:]).contiguous()  # (B·g, n, H, W)
        return (grouped * self._cell_gate(grouped)).view(x.shape)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate, ``(B, C, H, W)``; the channels of a group share theirs."""
        n = self.channels // self.groups
        gate = self._cell_gate(x.reshape(-1, n, *x.shape[2:]).contiguous())
        return gate.view(len(x), self.groups, *x.shape[2:]).repeat_interleave(n, 1)

    def _cell_gate(self, grouped: Tensor) -> Tensor:
        """Return the gate of each cell, ``(B·g, 1, H, W)``, of groups ``(B·g, n, H, W)``."""
        rows, columns = grouped.mean(3), grouped.mean(2)  # (B·g, n, H), (B·g, n, W)
        gated = grouped * self._strip_gates(rows, columns)
        if not (is_as_built(self.conv3x3, nn.Conv2d) and is_as_built(self.gn, nn.GroupNorm)):
            return self._gate_as_written(self.gn(gated), self.conv3x3(grouped))
        first = self._normalise(gated)  # (B·g, n, H, W)
        first_weight = self.gn.bias.softmax(0)  # (n,), for the mean of each channel of `first` is its bias
        second_weight = self._mean_of_conv3x3(grouped, rows).softmax(1)  # (B·g, n)
        logits = (second_weight.unsqueeze(1) @ first.flatten(2)).view(-1, 1, *grouped.shape[2:])  # (B·g, 1, H, W)
        logits = logits + self._sum_of_conv3x3(grouped, first_weight)
        return logits.sigmoid()

    @staticmethod
    def _gate_as_written(first: Tensor, second: Tensor) -> Tensor:
        """Return the gate of each cell from the maps of both branches, ``(B·g, n, H, W)`` each, by the paper."""
        weights = [branch.mean((2, 3)).softmax(1).unsqueeze(1) for branch in (first, second)]  # (B·g, 1, n)
        logits = weights[0] @ second.flatten(2) + weights[1] @ first.flatten(2)
        return torch.unflatten(logits, 2, first.shape[2:]).sigmoid()

    def _strip_gates(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the product of both strip gates, ``(B·g, n, H, W)``."""
        H = rows.shape[2]
        strips: Tensor = self.conv1x1(torch.cat([rows, columns], 2).unsqueeze(3))  # (B·g, n, H+W, 1)
        gates = strips.sigmoid()
        return gates[:, :, :H] * gates[:, :, H:].transpose(2, 3)

    def _normalise(self, x: Tensor) -> Tensor:
        """Return the instance norm of ``x``; unlike the module's own call, also where a channel is a single cell."""
        return torch.group_norm(x, self.gn.num_groups, self.gn.weight, self.gn.bias, self.gn.eps)

    def _mean_of_conv3x3(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the mean over the cells of the 3x3 convolution of ``x``, ``(B·g, n)``.

        Each tap of the filter meets every cell but those of a row and a column at the border, or none of either.
        """
        H, W = x.shape[2:]
        left, right = x[..., 0] / W, x[..., -1] / W  # (B·g, n, H)
        rows = torch.stack([rows - right, rows, rows - left], 3)  # (B·g, n, H, 3)
        top, bottom = rows[:, :, 0] / H, rows[:, :, -1] / H  # (B·g, n, 3)
        mean = rows.mean(2)
        taps = torch.stack([mean - bottom, mean, mean - top], 2)  # (B·g, n, 3, 3)
        return F.linear(taps.flatten(1), self.conv3x3.weight.flatten(1), self.conv3x3.bias)

    def _sum_of_conv3x3(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the sum of the channels of the 3x3 convolution of ``x``, each times its weight, ``(B·g, 1, H, W)``.

        A product with the summed filter's nine taps and two shifted sums: convolution kernels are slow at one channel.
        """
        assert self.conv3x3.bias is not None
        n = len(weight)
        kernel = (weight[None] @ self.conv3x3.weight.flatten(1)).view(n, 3, 3).permute(2, 1, 0)  # columns first
        kernel = kernel.flatten(0, 1)  # (9, n)
        if is_tracing():  # OpenVINO runs no quantized product with weights in front
            taps = F.conv2d(x, kernel[:, :, None, None])  # (B·g, 9, H, W)
        else:
            taps = (kernel @ x.flatten(2)).view(-1, 9, *x.shape[2:])
        left, middle, right = taps.chunk(3, 1)
        taps = F.pad(left, (1, -1)) + middle + F.pad(right, (-1, 1))  # (B·g, 3, H, W)
        above, middle, below = taps.chunk(3, 1)
        taps = F.pad(above, (0, 0, 1, -1)) + middle + F.pad(below, (0, 0, -1, 1))  # (B·g, 1, H, W)
        return taps + (weight * self.conv3x3.bias).sum()
