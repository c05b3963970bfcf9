"""EPSA: convolve the map at four kernel sizes and let each channel of the branches compete by a softmax.

Paper: EPSANet: An Efficient Pyramid Squeeze Attention Block on Convolutional Neural Network, Zhang et al., ACCV 2022,
    arXiv 2105.14447.
Code: murufeng/EPSANet, models/epsanet.py (MIT), read for parity only.
Differs: The reference stacks the weighted branches from the largest kernel to the smallest; the default is the
    paper's order, and reverse=True is the reference's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.checks import divides, largest_divisor, multiple_of
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import ChannelMLP, fit_reduction, hidden_channels

KERNEL_SIZES = (3, 5, 7, 9)
GROUPS = (1, 4, 8, 16)


@register(
    role="mixer",
    family="multi-scale convolution",
    year=2021,
    formula="concat_i(F_i * softmax_i(sigmoid(MLP(mean_HW(F_i))))), F_i = conv_i(x), kernels 3, 5, 7, 9",
    cost="taps * N + 2 * C * hidden",
    aliases=("PSAModule",),
    growth="N",
)
class EPSA(Attention):
    """Stack four convolutions of a quarter of the channels each, weighted against each other by channel.

    It is the PSA module of EPSANet, which stands there in the place of a 3x3 convolution.

    Args:
        channels: Number of channels C, a multiple of 4.
        groups: Number of groups of each of the four convolutions; each a divisor of C / 4.
        reduction: How many times narrower the hidden layer of the MLP is than C / 4; at most C / 4.
        reverse: Whether to stack the branches from the largest kernel to the smallest.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If C is no multiple of 4, one of ``groups`` does not divide C / 4, or ``reduction`` leaves no
            hidden channel.

    Example:
        >>> import torch
        >>> EPSA(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(
        self, channels: int, *, groups: tuple[int, ...] = GROUPS, reduction: int = 16, reverse: bool = False
    ) -> None:
        super().__init__(channels)
        multiple_of("EPSA", len(KERNEL_SIZES), channels)
        if len(groups) != len(KERNEL_SIZES):
            raise OptionError(f"EPSA needs one number of groups for each of its 4 kernels, got {tuple(groups)}")
        branch = channels // len(KERNEL_SIZES)
        for number in groups:
            divides("EPSA (each branch)", "groups", number, branch)
        self.groups = tuple(groups)
        self.reduction = reduction
        self.reverse = reverse
        self.hidden = hidden_channels("EPSA (each branch)", branch, reduction)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, branch, size, padding=size // 2, groups=number, bias=False)
            for size, number in zip(KERNEL_SIZES, groups, strict=True)
        )
        self.taps = sum(parameter.numel() for parameter in self.convs.parameters())
        self.mlp = ChannelMLP(branch, self.hidden)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take fewer ``groups`` and a lower ``reduction`` where a quarter of the width does not suit the defaults."""
        branch = channels // len(KERNEL_SIZES)
        groups = tuple(largest_divisor(branch, number) for number in GROUPS)
        return ({} if groups == GROUPS else {"groups": groups}) | fit_reduction(branch, 16)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted branches, stacked."""
        self.check(x)
        branches = self._branches(x)
        weighted = [branch * weight for branch, weight in zip(branches, self._weights(branches), strict=True)]
        return self._stack(weighted)

    def gated(self, x: Tensor) -> Tensor:
        """Return what the gate multiplies: the stacked branches."""
        return self._stack(self._branches(x))

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the weights of the stacked branches against each other, ``(B, C, 1, 1)``."""
        return self._stack(self._weights(self._branches(x)))

    def _branches(self, x: Tensor) -> list[Tensor]:
        return [conv(x) for conv in self.convs]  # 4 of (B, C / 4, H, W)

    def _weights(self, branches: list[Tensor]) -> list[Tensor]:
        pooled = torch.stack([branch.mean((2, 3)) for branch in branches], 1)  # (B, 4, C / 4)
        weights: Tensor = self.mlp(pooled).sigmoid().softmax(1)[..., None, None]  # (B, 4, C / 4, 1, 1)
        return list(weights.unbind(1))

    def _stack(self, branches: list[Tensor]) -> Tensor:
        return torch.cat(branches[::-1] if self.reverse else branches, 1)
