"""GAM: gate every value by an MLP over the channels of its cell, then by two large convolutions over the map.

Paper: Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions, Liu et al., 2021, arXiv
    2112.05561.
Code: The authors published none; read from the paper's equations and figures.
Differs: The paper's variant for ResNet-50, whose convolutions are grouped and shuffled, is not built; it is what copies
    with ``group=True`` are. Many circulated copies leave out the sigmoid of the channel gate, channel_gate="none", and
    some the batch norms.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attngraft._core.checks import odd, one_of
from attngraft._core.registry import Disputed, register
from attngraft.attention._base import Attention
from attngraft.attention._gates import fit_reduction, hidden_channels


@register(
    role="gate",
    family="channel and spatial gate",
    year=2021,
    formula="y = x * sigmoid(W_2 relu(W_1 x)); y * sigmoid(BN(conv_k(relu(BN(conv_k(y))))))",
    cost="2 * C * (C // reduction) * (1 + kernel_size**2) * N",
    row=("reduction",),
    aliases=("GAM_Attention", "GAMAttention"),
    signatures=(("reduction",), ("off", "reduction")),
    alias_defaults={
        "GAM_Attention": {"channel_gate": "none"},
        "Bottleneck_GAM": {"channel_gate": "none"},
        "GAMAttention": {
            "channel_gate": Disputed(
                ("none", "sigmoid"), ", and most group and shuffle their convolutions, which is not built here"
            )
        },
    },
    growth="N",
)
class GAM(Attention):
    """Gate each value by the channels of its cell, then by its surroundings, without pooling anything.

    It is costly: the two convolutions mix all channels over ``kernel_size`` squared cells. In training the batch norms
    need more than one cell in the batch: a single 1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        reduction: How many times narrower both hidden layers are than C; at most C.
        kernel_size: Odd side of the convolutions.
        channel_gate: ``"sigmoid"``, or ``"none"``: the MLP's values themselves are the gate.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``reduction`` leaves no hidden channel, ``kernel_size`` is even, or
            ``channel_gate`` is neither.

    Example:
        >>> import torch
        >>> GAM(16)(torch.randn(2, 16, 7, 5)).shape
        torch.Size([2, 16, 7, 5])
    """

    channel_gate = "sigmoid"  # also of those pickled before there was a choice

    def __init__(
        self, channels: int, *, reduction: int = 4, kernel_size: int = 7, channel_gate: str = "sigmoid"
    ) -> None:
        super().__init__(channels)
        odd("GAM", kernel_size=kernel_size)
        one_of("GAM", "channel_gate", channel_gate, ("sigmoid", "none"))
        self.channel_gate = channel_gate
        hidden = hidden_channels("GAM", channels, reduction)
        self.reduction = reduction
        self.kernel_size = kernel_size
        self.channel = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size, padding=kernel_size // 2),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, kernel_size, padding=kernel_size // 2),
            nn.BatchNorm2d(channels),
        )

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower ``reduction`` on maps narrower than its default."""
        return fit_reduction(channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map gated twice."""
        self.check(x)
        x = x * self._channel_gate(x)
        return x * self._spatial_gate(x)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the product of both gates, ``(B, C, H, W)``."""
        channel_gate = self._channel_gate(x)
        return channel_gate * self._spatial_gate(x * channel_gate)

    def _channel_gate(self, x: Tensor) -> Tensor:
        gate: Tensor = self.channel(x) if self.channel_gate == "none" else self.channel(x).sigmoid()
        return gate

    def _spatial_gate(self, x: Tensor) -> Tensor:
        gate: Tensor = self.spatial(x).sigmoid()
        return gate
