"""MHA: every cell attends to every cell, without positions.

Paper: Attention Is All You Need, Vaswani et al., NeurIPS 2017, arXiv 1706.03762.
Code: pytorch/pytorch, torch/nn/modules/activation.py (BSD-3-Clause), oracle of a test.
Differs: The paper's projections have no bias; here they have one as in PyTorch's module, and bias=False is the paper's.
    Weights start as those of linear layers; PyTorch's module starts q, k and v Xavier-uniform, and all biases at zero.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import divides
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._rows import Cells, Mixture, chosen_logits, softmax
from attngraft.attention._tokens import fit_heads, to_heads, to_map, to_tokens


@register(
    role="mixer",
    family="global self-attention",
    year=2017,
    formula="W_o softmax(q k^T / sqrt(d)) v",
    cost="4 * C**2 * N + 2 * C * N**2",
    row=("heads",),
    growth="N",
)
class MHA(Attention):
    """Attend from every cell to every cell in several heads, without positions.

    The layer is blind to the layout of the map: to permute the cells is to permute its output. It is the control that
    tells what the positions of another mechanism are worth.

    Args:
        channels: Number of channels C.
        heads: Number of heads; a divisor of C.
        bias: Whether the projections have a bias.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide ``channels``.

    Example:
        >>> import torch
        >>> MHA(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    mixture = Mixture(layout="tokens")

    def __init__(self, channels: int, *, heads: int = 8, bias: bool = True) -> None:
        super().__init__(channels)
        divides("MHA", "heads", heads, channels)
        self.heads = heads
        self.bias = bias
        self.qkv = nn.Linear(channels, 3 * channels, bias)
        self.proj = nn.Linear(channels, channels, bias)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take fewer heads where the default does not divide the width."""
        return fit_heads(channels, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each cell gathered from the map."""
        self.check(x)
        q, k, v = self._vectors(x)
        gathered = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, N, C)
        out: Tensor = self.proj(gathered)
        return to_map(out, *x.shape[2:])

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``."""
        q, k, _ = self._vectors(x)
        return softmax(chosen_logits(q, k, cells, q.shape[3] ** -0.5)[1])

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the last projection, ``(B, h, N, d)``."""
        return self._vectors(x)[2]

    def _vectors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens = to_tokens(x)  # (B, N, C)
        q, k, v = (to_heads(part, self.heads) for part in self.qkv(tokens).chunk(3, 2))  # (B, h, N, d)
        return q, k, v
