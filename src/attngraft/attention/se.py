"""SE: gate each channel by a small MLP over all channel means.

Paper: Squeeze-and-Excitation Networks, Hu et al., CVPR 2018, arXiv 1709.01507.
Code: moskomule/senet.pytorch, senet/se_module.py (MIT), read for parity only.
Differs: Nothing.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import fit_reduction, hidden_channels


@register(
    role="gate",
    family="channel gate",
    year=2018,
    formula="x * sigmoid(W2 relu(W1 mean_HW(x)))",
    cost="2 * C * (C // reduction)",
    row=("reduction",),
    aliases=("SEAttention", "SELayer", "SEBlock", "SEModule"),
    signatures=(("reduction",),),
    growth="N",
)
class SE(Attention):
    """Gate each channel by a two-layer MLP over the channel means.

    Args:
        channels: Number of channels C.
        reduction: How many times narrower the hidden layer is than C; at most C.
        bias: Whether both layers have biases.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``reduction`` leaves no hidden channel.

    Example:
        >>> import torch
        >>> SE(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, reduction: int = 16, bias: bool = False) -> None:
        super().__init__(channels)
        hidden = hidden_channels("SE", channels, reduction)
        self.reduction = reduction
        self.bias = bias
        self.squeeze = nn.Linear(channels, hidden, bias=bias)
        self.excite = nn.Linear(hidden, channels, bias=bias)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower ``reduction`` on maps narrower than its default."""
        return fit_reduction(channels, 16)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        return x * self.gate_map(x)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate, ``(B, C, 1, 1)``."""
        pooled = x.mean((2, 3))  # (B, C)
        gate: Tensor = self.excite(self.squeeze(pooled).relu()).sigmoid()  # (B, C)
        return gate[:, :, None, None]
