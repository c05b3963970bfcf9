"""ELA: gate rows and columns of each channel by short 1-D convolutions over the two strips of means.

Paper: ELA: Efficient Local Attention for Deep Convolutional Neural Networks, Xu and Wan, 2024, arXiv 2403.01123.
Code: The authors published no repository; read from the paper's equations and its table of variants.
Differs: Nothing. The number of norm groups must divide C; a graft lowers it where it does not. Circulated copies
    differ: a widespread one has a dense convolution of kernel_size 1 with a bias, and so does not look along the strip
    at all; others compute C / 8 groups as a float and fail.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from attngraft._core.checks import divides, largest_divisor, multiple_of, one_of
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import GroupNorm

VARIANTS = {"T": (5, 1, 32), "B": (7, 1, 16), "S": (5, 8, 16), "L": (7, 8, 16)}
"""Kernel size, channels that one convolution group mixes, and number of norm groups of the paper's four variants."""


@register(
    role="gate",
    family="coordinate gate",
    year=2024,
    formula="x * sigmoid(GN(conv1d_k(mean_W(x)))) * sigmoid(GN(conv1d_k(mean_H(x))))",
    cost="C * mixed * kernel_size * (H + W)",
    growth="N",
    row=("variant",),
    aliases=("EfficientLocalizationAttention",),
)
class ELA(Attention):
    """Gate rows and columns by two strips that share one convolution and one norm.

    Args:
        channels: Number of channels C.
        variant: The paper's "T", "B", "S" or "L", with kernels of 5, 7, 5 and 7; T and B convolve each channel by
            itself, S and L mix them by eights and need C to be a multiple of 8.
        norm_groups: Number of groups of the group norm, a divisor of C; None takes the variant's, 32 in T and 16 in the
            others.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If there is no such variant, or C does not suit it or ``norm_groups``.

    Example:
        >>> import torch
        >>> ELA(64, variant="S")(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, variant: str = "B", norm_groups: int | None = None) -> None:
        super().__init__(channels)
        one_of("ELA", "variant", variant, tuple(VARIANTS))
        self.kernel_size, self.mixed, usual_groups = VARIANTS[variant]
        self.variant = variant
        self.norm_groups = usual_groups if norm_groups is None else norm_groups
        multiple_of(f"ELA {variant}", self.mixed, channels)
        divides("ELA", "norm_groups", self.norm_groups, channels)
        self.conv = nn.Conv1d(
            channels,
            channels,
            self.kernel_size,
            padding=self.kernel_size // 2,
            groups=channels // self.mixed,
            bias=False,
        )
        self.norm = GroupNorm(self.norm_groups, channels)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take fewer ``norm_groups`` where those of some variant, 32 in T, do not divide the width."""
        return {"norm_groups": largest_divisor(channels, 16)} if channels % 32 else {}

    @classmethod
    def from_row(cls, channels: int, *values: Any) -> dict[str, Any]:
        """Name the value of a row: a variant, or the kernel size of a copied class with 16 norm groups.

        Raises:
            OptionError: If it is neither.
        """
        given = super().from_row(channels, *values)
        copied: dict[Any, dict[str, Any]] = {7: {"variant": "B"}, 5: {"variant": "T", "norm_groups": 16}}
        return copied.get(given.get("variant"), given)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        rows, columns = self._strip_gates(x)
        return x * rows * columns

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the product of both strips' gates, ``(B, C, H, W)``."""
        rows, columns = self._strip_gates(x)
        return rows * columns

    def _strip_gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = self._strip_gate(x.mean(3)).unsqueeze(3)  # (B, C, H, 1)
        columns = self._strip_gate(x.mean(2)).unsqueeze(2)  # (B, C, 1, W)
        return rows, columns

    def _strip_gate(self, strip: Tensor) -> Tensor:
        gate: Tensor = self.norm(self.conv(strip)).sigmoid()
        return gate
