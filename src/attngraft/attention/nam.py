"""NAM: gate each value by itself, normalised and weighted by its channel's share of the batch norm's scales.

Paper: NAM: Normalization-based Attention Module, Liu et al., 2021, arXiv 2111.12419.
Code: Christian-lyc/NAM, MODELS/attention.py (no licence), read for parity only.
Differs: The reference cuts the gradient of the shares by reading the scales through .data; here they get the gradient
    of the paper's equation, and detach=True is the reference. Its scales count by magnitude, as here, where the paper
    writes them bare. The spatial form is not built: its batch norm has a parameter for every cell of one fixed map
    size.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import positive
from attngraft._core.registry import register
from attngraft.attention._base import Attention


@register(
    role="gate",
    family="channel gate",
    year=2021,
    formula="x * sigmoid(|gamma_c| / sum_c |gamma_c| * BN(x)), gamma the scales of BN",
    cost="0",
    growth="N",
    aliases=("NAMAttention",),
    signatures=(("_", "_"),),
)
class NAM(Attention):
    """Gate each value by its normalised self, more so in channels whose batch norm scale is large.

    In training the batch norm needs more than one cell in the batch: a single 1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        detach: Whether the shares of the scales are constants to the gradient.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Example:
        >>> import torch
        >>> NAM(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, detach: bool = False) -> None:
        super().__init__(channels)
        positive("NAM", channels=channels)
        self.detach = detach
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        return x * self.gate_map(x)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate, ``(B, C, H, W)``."""
        normed: Tensor = self.norm(x)  # before its weight is read: pruning sets that in the call
        scales = self.norm.weight.detach() if self.detach else self.norm.weight
        shares = F.normalize(scales.abs(), p=1.0, dim=0)  # (C,), sums to 1
        return (normed * shares[:, None, None]).sigmoid()
