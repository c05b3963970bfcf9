"""TSSA: no cell looks at another; each head shrinks the channels in which the cells that belong to it vary.

Paper: Token Statistics Transformer: Linear-Time Attention via Variational Rate Reduction (ToST), Wu et al., ICLR 2025,
    arXiv 2412.17810.
Code: RobinWu218/ToST, tost_vision/tost.py (no licence file seen), read for parity only.
Differs: Nothing in the output. The code adds 1e-8 to the sum over the cells of a head's shares, which is never near it.
    Statistics are computed in float32 at least. Dropout is not built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.checks import divides
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._official import renamed
from attngraft.attention._precision import at_least_single, no_autocast
from attngraft.attention._tokens import fit_heads, psa_heads

SMALLEST_NORM = 1e-12
"""By which at least a channel of the projected map is divided, as PyTorch's `normalize` does."""


@register(
    family="linear self-attention",
    year=2025,
    formula="W_o(-w * pi / (1 + sum_n pi_n w_n^2 / sum_n pi_n)), w = W x, "
    "pi = softmax over heads of tau_h sum_c w_nc^2 / sum_n w_nc^2",
    cost="2 * C**2 * N",
    row=("heads", "qkv_bias"),
    aliases=("AttentionTSSA", "TSSAttention", "TokenStatisticsSelfAttention"),
    signatures=(("heads", "qkv_bias"),),
    alias_defaults={"C2TSSA": {"heads": psa_heads}},
    growth="N",
)
class TSSA(Attention):
    """Rescale each head's channels by the second moments of the cells that belong to it.

    Args:
        channels: Number of channels C.
        heads: Number of heads, among which the cells are shared out; divides C.
        qkv_bias: Whether the first projection has a bias.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide C.

    Example:
        >>> import torch
        >>> TSSA(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, heads: int = 8, qkv_bias: bool = False) -> None:
        super().__init__(channels)
        divides("TSSA", "heads", heads, channels)
        self.heads = heads
        self.qkv_bias = qkv_bias
        self.qkv = nn.Conv2d(channels, channels, 1, bias=qkv_bias)
        self.temperature = nn.Parameter(torch.ones(heads, 1))
        self.proj = nn.Conv2d(channels, channels, 1)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take the largest number of heads up to the default that divides the width."""
        return fit_heads(channels, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Return the rescaled and projected map."""
        self.check(x)
        w = self.qkv(x)
        projected: Tensor = self.proj(-w * self._gate(w))
        return projected

    def gated(self, x: Tensor) -> Tensor:
        """Return what the gate multiplies: the projected map, negated; another projection comes after."""
        w: Tensor = self.qkv(x)
        return -w

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the share of each cell in each head over one plus the head's second moments, ``(B, C, H, W)``."""
        return self._gate(self.qkv(x))

    def _gate(self, w: Tensor) -> Tensor:
        with no_autocast(w):
            squares = torch.unflatten(at_least_single(w).flatten(2).square(), 1, (self.heads, -1))  # (B, h, d, N)
            energy = squares.sum(3, keepdim=True).clamp(min=SMALLEST_NORM**2)  # (B, h, d, 1)
            shares = ((squares / energy).sum(2) * self.temperature).softmax(1).unsqueeze(2)  # (B, h, 1, N)
            moments = (squares * shares).sum(3, keepdim=True) / shares.sum(3, keepdim=True)  # (B, h, d, 1)
            return (shares / (1 + moments)).reshape(w.shape).to(w.dtype)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' ``AttentionTSSA``, and turn its linear layers to 1x1 convolutions.

    Args:
        state: Its state dict.

    Returns:
        A state dict for `TSSA`.

    Raises:
        CheckpointError: If it is no state of such a module.
    """
    found = renamed("AttentionTSSA", state, {"qkv": "qkv", "temp": "temperature", "to_out.0": "proj"})
    return {name: t[..., None, None] if name in ("qkv.weight", "proj.weight") else t for name, t in found.items()}
