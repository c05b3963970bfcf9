"""SimAM: gate each cell by how far it stands out of its own channel, without any parameter.

Paper: SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks, Yang et al., ICML 2021.
Code: ZjjConan/SimAM, networks/attentions/simam_module.py (no licence), read for parity only.
Differs: The paper divides the variance by N = H*W, the authors' code by N - 1. The default is the paper's;
    correction=1 is the code's. The code gives NaN on a map of one cell, where it divides 0 by 0; here such a cell
    does not stand out, whatever the variance, and its gate is sigmoid(1/2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention


@register(
    name="simam",
    role="gate",
    family="parameter-free gate",
    year=2021,
    formula="x * sigmoid((x - mean)^2 / (4 (var + lambda)) + 1/2), mean and var over HW",
    cost="0",
    row=("e_lambda",),
    growth="N",
)
class SimAM(Attention):
    """Gate each cell by its squared distance from the channel's mean, in units of the variance.

    Args:
        channels: Number of channels C.
        e_lambda: The constant lambda that is added to the variance; above 0.
        correction: What is taken off N in the variance's denominator: 0 as in the paper or 1 as in the authors' code.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``e_lambda`` is not above 0, or ``correction`` is neither 0 nor 1.

    Example:
        >>> import torch
        >>> SimAM(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(self, channels: int, *, e_lambda: float = 1e-4, correction: int = 0) -> None:
        super().__init__(channels)
        if not e_lambda > 0:
            raise OptionError(f"SimAM needs e_lambda above 0, got {e_lambda!r}; the paper uses 1e-4")
        if correction not in (0, 1):
            raise OptionError(f"SimAM needs correction to be 0 (the paper) or 1 (the code), got {correction!r}")
        self.e_lambda = e_lambda
        self.correction = correction

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        N = x.shape[2] * x.shape[3]
        degrees = N - self.correction * (N > 1)  # of freedom; a single cell has distance 0 whatever it is divided by
        distance = x - x.mean((2, 3), keepdim=True)
        deviation = torch.linalg.vector_norm(distance, dim=(2, 3), keepdim=True) / degrees**0.5  # (B, C, 1, 1)
        # Scaled before it is squared: the square of a half-precision distance can overflow, that of the ratio cannot.
        scaled = distance * (0.5 * (deviation.square() + self.e_lambda).rsqrt())
        gate = scaled.square().add_(0.5).sigmoid_()
        return x * gate
