"""ShuffleAttention: gate half of each group of channels by its means, the other half by its cells, and mix the halves.

Paper: SA-Net: Shuffle Attention for Deep Convolutional Neural Networks, Zhang and Yang, ICASSP 2021, arXiv
    2102.00240.
Code: wofmanaf/SA-Net, models/sa_resnet.py (no licence), read for parity only.
Differs: Nothing. The reference's 64 groups need at least 128 channels, which most circulated copies answer with a
    fixed 8; here a graft takes the largest number of groups up to 64 that the width allows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.checks import is_as_built, largest_divisor, multiple_of, nearest_divisors, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import GroupNorm


@register(
    role="gate",
    family="channel and spatial gate",
    year=2021,
    formula="shuffle_2([u * sigmoid(w mean_HW(u) + b); v * sigmoid(w' GN(v) + b')]) for the halves u, v of each group",
    cost="0",
    row=("groups",),
    aliases=("sa_layer", "SALayer"),
    signatures=(("_", "groups"),),
    alias_signatures={"sa_layer": (("groups",),), "SALayer": (("groups",),)},
    alias_defaults={"ShuffleAttention": {"groups": 8}},
    growth="N",
)
class ShuffleAttention(Attention):
    """Gate two halves of each channel group in two ways, then interleave the two halves of the map's channels.

    The parameters are shared by all groups. The channels leave in another order than they come in: at the start every
    gate is sigmoid(1) and the module is a scaled permutation.

    Args:
        channels: Number of channels C.
        groups: Number of channel groups; 2 * groups must divide C.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If C is odd or ``groups`` does not divide C / 2.

    Example:
        >>> import torch
        >>> ShuffleAttention(64, groups=8)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, groups: int = 64) -> None:
        super().__init__(channels)
        multiple_of("ShuffleAttention", 2, channels)
        positive("ShuffleAttention", groups=groups)
        if (channels // 2) % groups:
            raise OptionError(
                f"ShuffleAttention needs 2 * groups to divide channels, got channels={channels} and groups={groups}; "
                f"groups could be {nearest_divisors(channels // 2, groups)}"
            )
        self.groups = groups
        half = channels // (2 * groups)
        self.channel_weight = nn.Parameter(torch.zeros(half))
        self.channel_bias = nn.Parameter(torch.ones(half))
        self.cell_weight = nn.Parameter(torch.zeros(half))
        self.cell_bias = nn.Parameter(torch.ones(half))
        self.norm = GroupNorm(half, half)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take fewer ``groups`` where the width does not allow the default."""
        return {"groups": largest_divisor(channels // 2, 64)} if channels % 128 else {}

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map with its channels shuffled."""
        self.check(x)
        B, C, H, W = x.shape
        u, v = x.reshape(B * self.groups, C // self.groups, H, W).chunk(2, 1)  # (B g, C / 2g, H, W) each
        u = u * self._channel_gate(u)
        v = v * self._cell_gate(v)
        halves = torch.cat((u, v), 1).reshape(B, 2, C // 2, H, W)
        return halves.transpose(1, 2).reshape(B, C, H, W)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate, ``(B, C, H, W)``, in the order in which channels come in; the output is their shuffle."""
        B, C, H, W = x.shape
        u, v = x.reshape(B * self.groups, C // self.groups, H, W).chunk(2, 1)
        return torch.cat((self._channel_gate(u).expand_as(u), self._cell_gate(v)), 1).reshape(x.shape)

    def _channel_gate(self, u: Tensor) -> Tensor:
        """Return ``sigmoid(channel_weight * mean(u) + channel_bias)``."""
        weight, bias = self.channel_weight[:, None, None], self.channel_bias[:, None, None]
        return torch.addcmul(bias, u.mean((2, 3), keepdim=True), weight).sigmoid()

    def _cell_gate(self, v: Tensor) -> Tensor:
        """Return ``sigmoid(cell_weight * norm(v) + cell_bias)``, both affine maps in one: a pass less over the map."""
        if not is_as_built(self.norm, GroupNorm):
            weight, bias = self.cell_weight[:, None, None], self.cell_bias[:, None, None]
            return torch.addcmul(bias, self.norm(v), weight).sigmoid()
        weight = self.norm.weight * self.cell_weight
        bias = torch.addcmul(self.cell_bias, self.norm.bias, self.cell_weight)
        return torch.group_norm(v, self.norm.num_groups, weight, bias, self.norm.eps).sigmoid()
