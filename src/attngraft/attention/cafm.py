"""CAFM: attention among the channels of a map, beside a convolution of its queries, keys and values.

Paper: Hybrid Convolutional and Attention Network for Hyperspectral Image Denoising (HCANet), Hu et al., IEEE GRSL 2024,
    arXiv 2403.10067.
Code: summitgao/HCANet, HCANet.py (no licence), read for parity only.
Differs: The code reads its maps in the wrong order for the convolution: it takes the memory of a map, channel by
    channel, for cells with all their channels, so that what meets depends on the map's size. Here each cell's own
    queries, keys and values meet, and form="code" is the code's order. Its three-dimensional filters work on a depth of
    one, where only their middle slice meets anything: here they have two dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft._core.checks import divides, is_as_built, is_tracing, one_of
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._official import renamed
from attngraft.attention._precision import at_least_single, no_autocast
from attngraft.attention._tokens import fit_heads

TAPS = 9
"""Mixtures of the queries, keys and values of all heads, from which the convolution reads."""


@register(
    family="channel self-attention",
    year=2024,
    formula="W_o(softmax(tau q k^T) v) + conv3(mix_9(q, k, v)), q k v = DW3(W x), q and k of unit length over cells",
    cost="N * C * (4 * C + 135 + 2 * (C // heads))",
    row=("heads", "bias"),
    aliases=("CAFMAttention", "ConvolutionAttentionFusionModule"),
    signatures=(("heads", "bias"),),
    alias_defaults={"CAFM": {"heads": 4, "form": "code"}, "CAFMAttention": {"heads": 2, "form": "code"}},
    growth="N",
)
class CAFM(Attention):
    """Let channels attend to channels, and add a 3x3 convolution over mixtures of queries, keys and values.

    Args:
        channels: Number of channels C.
        heads: Number of groups of channels that attend among themselves; divides C.
        bias: Whether the projections and the depth-wise convolution have biases.
        form: ``"paper"``, or ``"code"`` for the order of the authors' code.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide C, or there is no such ``form``.

    Example:
        >>> import torch
        >>> CAFM(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    no_map = "its channels attend to channels, which weighs no place of the map against another"

    def __init__(self, channels: int, *, heads: int = 8, bias: bool = False, form: str = "paper") -> None:
        super().__init__(channels)
        divides("CAFM", "heads", heads, channels)
        one_of("CAFM", "form", form, ("paper", "code"))
        self.heads = heads
        self.bias = bias
        self.form = form
        d = channels // heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.qkv_local = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=bias)
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.mix = nn.Conv2d(3 * heads, TAPS, 1)
        self.local = nn.Conv2d(TAPS * d, channels, 3, padding=1, groups=d)
        self.proj = nn.Conv2d(channels, channels, 1, bias=bias)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take the largest number of heads up to the default that divides the width."""
        return fit_heads(channels, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the channels gathered, plus the convolution."""
        self.check(x)
        qkv = self.qkv_local(self.qkv(x))  # (B, 3C, H, W)
        fused: Tensor = self.proj(self._attend(qkv).reshape(x.shape)) + self._convolve(qkv)
        return fused

    def _attend(self, qkv: Tensor) -> Tensor:
        """Return what each channel gathers from those of its head, ``(B, h, d, N)``."""
        q, k, v = (torch.unflatten(part, 1, (self.heads, -1)) for part in qkv.flatten(2).chunk(3, 1))  # (B, h, d, N)
        with no_autocast(qkv):
            q, k = (F.normalize(at_least_single(t), dim=3) for t in (q, k))
            weights = (q @ k.transpose(2, 3) * self.temperature).softmax(3)  # (B, h, d, d)
        return weights.to(v.dtype) @ v

    def _convolve(self, qkv: Tensor) -> Tensor:
        """Convolve mixtures of what a channel of a head has for query, key and value in all heads, ``(B, C, H, W)``."""
        B, _, H, W = qkv.shape
        if self.form == "code":
            parts = qkv.reshape(B, H * W, 3 * self.heads, -1).permute(0, 2, 3, 1)  # (B, 3h, d, N)
        else:
            parts = torch.unflatten(qkv.flatten(2), 1, (3 * self.heads, -1))
        mixtures = self._mixed(parts).transpose(1, 2)  # (B, d, 9, N)
        local: Tensor = self.local(mixtures.reshape(B, -1, H, W))
        return local

    def _mixed(self, parts: Tensor) -> Tensor:
        """Return mixtures ``(B, 9, d, N)`` of parts ``(B, 3h, d, N)``."""
        if self.form == "code" and is_tracing() and is_as_built(self.mix, nn.Conv2d):
            # OpenVINO runs no quantized 1x1 convolution behind a transpose.
            last = F.linear(parts.permute(0, 2, 3, 1), self.mix.weight.flatten(1), self.mix.bias)  # (B, d, N, 9)
            return last.permute(0, 3, 1, 2)
        mixtures: Tensor = self.mix(parts)
        return mixtures


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' ``Attention``, and take the middle slices of its three-dimensional filters.

    Args:
        state: Its state dict.

    Returns:
        A state dict for `CAFM`, whose ``form="code"`` gives the authors' numbers.

    Raises:
        CheckpointError: If it is no state of such a module.
    """
    names = {
        "qkv": "qkv", "qkv_dwconv": "qkv_local", "temperature": "temperature", "fc": "mix", "dep_conv": "local",
        "project_out": "proj",
    }  # fmt: skip
    found = renamed("CAFM", state, names)
    return {name: t[:, :, t.shape[2] // 2] if t.dim() == 5 else t for name, t in found.items()}
