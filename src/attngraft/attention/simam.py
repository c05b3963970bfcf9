"""SimAM: gate each cell by how far it stands out of its own channel, without any parameter.

Paper: SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks, Yang et al., ICML 2021.
Code: ZjjConan/SimAM, networks/attentions/simam_module.py (no licence), read for parity only.
Differs: The paper divides the variance by N = H*W, the authors' code by N - 1. The default is the paper's;
    correction=1 is the code's. The code gives NaN on a map of one cell, where it divides 0 by 0; here such a cell
    does not stand out, whatever the variance, and its gate is sigmoid(1/2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attngraft._core.checks import is_tracing, is_transformed
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
    aliases=("Simam_module", "simam_module"),
    alias_defaults={"SimAM": {"correction": 1}, "Simam_module": {"correction": 1}},
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
        degrees = self._degrees(x)
        if is_tracing() or is_transformed():  # TorchScript cannot save a Python function
            return _plain(x, degrees, self.e_lambda)
        gated: Tensor = _Gate.apply(x, degrees, self.e_lambda)
        return gated

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate, ``(B, C, H, W)``."""
        return _stand_out(x, self._degrees(x), self.e_lambda, in_place=False)[2]

    def _degrees(self, x: Tensor) -> int:
        """Return the degrees of freedom of a variance; a single cell has distance 0 whatever it is divided by."""
        N = x.shape[2] * x.shape[3]
        return N - self.correction * (N > 1)


def _stand_out(x: Tensor, degrees: int, e_lambda: float, *, in_place: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return each cell's distance from its channel's mean over ``2 sqrt(var + lambda)``, one over that, and the gate.

    Scaled before it is squared, and the variance in single precision: the square of a half-precision distance can
    overflow, that of the ratio cannot. In place it makes two maps less, and has no gradient of its own.
    """
    single = torch.promote_types(x.dtype, torch.float32)
    distance = x - x.mean((2, 3), keepdim=True)
    norm = torch.linalg.vector_norm(distance, dim=(2, 3), keepdim=True, dtype=single)  # (B, C, 1, 1)
    deviation = norm / degrees**0.5
    inverse = (0.5 * (deviation.square() + e_lambda).rsqrt()).to(x.dtype)
    if not in_place:
        scaled = distance * inverse
        return scaled, inverse, (scaled.square() + 0.5).sigmoid()
    scaled = distance.mul_(inverse)
    return scaled, inverse, scaled.square().add_(0.5).sigmoid_()


def _plain(x: Tensor, degrees: int, e_lambda: float) -> Tensor:
    return x * _stand_out(x, degrees, e_lambda, in_place=False)[2]


class _Gate(torch.autograd.Function):
    """``x * sigmoid(scaled^2 + 1/2)`` with its gradient in closed form: half as many passes over the map, and memory.

    With ``g`` the gate, ``t = dy x g (1 - g)`` and ``s = scaled``:
    ``dx = dy g + centred(inverse (2 t s - 8 s sum(t s^2) / degrees))``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, degrees: int, e_lambda: float) -> Tensor:
        scaled, inverse, gate = _stand_out(x, degrees, e_lambda, in_place=True)
        ctx.save_for_backward(x, scaled, inverse, gate)
        ctx.degrees, ctx.e_lambda = degrees, e_lambda
        return x * gate

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, None, None]:
        x, scaled, inverse, gate = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the closed form below has no derivative
            return torch.autograd.grad(_plain(x, ctx.degrees, ctx.e_lambda), x, d_out, create_graph=True)[0], None, None
        d_energy = (d_out * x).mul_(gate)
        d_energy.addcmul_(d_energy, gate, value=-1)  # with respect to scaled^2
        d_scaled = d_energy.mul_(scaled)
        by_variance = (d_scaled * scaled).sum((2, 3), keepdim=True) * (8 / ctx.degrees)
        d_distance = d_scaled.mul_(2).addcmul_(scaled, by_variance, value=-1).mul_(inverse)
        d_distance.sub_(d_distance.mean((2, 3), keepdim=True))
        return d_distance.addcmul_(d_out, gate), None, None
