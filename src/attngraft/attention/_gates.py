"""What several gates are made of: the small network over channel means, and the gate over one plane of a map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import is_tracing, is_transformed, odd, positive
from attngraft._core.errors import OptionError


def hidden_channels(who: str, channels: int, reduction: int, least: int = 1) -> int:
    """Return the width ``channels // reduction`` of a hidden layer.

    Args:
        who: The module that is being built.
        channels: Number of channels C.
        reduction: How many times narrower the hidden layer is.
        least: The fewest hidden channels that make sense.

    Raises:
        OptionError: If fewer than ``least`` are left; names the largest reduction that works.
    """
    positive(who, channels=channels, reduction=reduction)
    if channels // reduction < least:
        raise OptionError(
            f"{who} needs reduction of at most {channels // least} to keep {least} hidden of channels={channels}, "
            f"got {reduction}"
        )
    return channels // reduction


def fit_reduction(channels: int, default: int, least: int = 1) -> dict[str, Any]:
    """Return the override that keeps ``least`` hidden channels where the default reduction does not.

    Example:
        >>> fit_reduction(256, 16), fit_reduction(8, 16), fit_reduction(8, 16, least=2)
        ({}, {'reduction': 8}, {'reduction': 4})
    """
    return {} if channels // default >= least else {"reduction": channels // least}


class ChannelMLP(nn.Module):
    """Two linear layers over the channel axis of pooled vectors, ReLU between them.

    Args:
        channels: Number of channels C.
        hidden: Width of the hidden layer.
        bias: Whether both layers have biases.
        slope: What the ReLU multiplies negative values by.

    Shape:
        - Input: ``(..., C)``
        - Output: ``(..., C)``, before any sigmoid
    """

    slope = 0.0  # also of those pickled before there was a choice

    def __init__(self, channels: int, hidden: int, *, bias: bool = True, slope: float = 0.0) -> None:
        super().__init__()
        self.slope = slope
        self.squeeze = nn.Linear(channels, hidden, bias=bias)
        self.excite = nn.Linear(hidden, channels, bias=bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return one logit a channel."""
        hidden = self.squeeze(pooled)
        logits: Tensor = self.excite(F.leaky_relu(hidden, self.slope) if self.slope else hidden.relu())
        return logits


class _SharedMax(torch.autograd.Function):
    """`torch.amax` with the same gradient for half the time: one full tensor of ones and zeros instead of three."""

    @staticmethod
    def forward(x: Tensor, dim: tuple[int, ...]) -> Tensor:
        return x.amax(dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[int, ...]], output: Tensor) -> None:
        x, ctx.dim = inputs
        ctx.save_for_backward(x, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, maximum = (saved.detach() for saved in ctx.saved_tensors)  # where the maximum lies has no derivative
        for axis in ctx.dim:
            maximum, grad = maximum.unsqueeze(axis), grad.unsqueeze(axis)
        attains = torch.eq(x, maximum, out=torch.empty_like(x))
        share = grad / attains.sum(ctx.dim, keepdim=True)
        return (attains * share if torch.is_grad_enabled() else attains.mul_(share)), None


def shared_max(x: Tensor, *dim: int) -> Tensor:
    """Return the maximum over some axes, which are dropped.

    All values that attain it share its gradient equally, so that it does not depend on their order; after ReLU or in
    half precision several often do.

    Args:
        x: The map ``(B, C, H, W)``.
        *dim: The axes that are reduced, in rising order.
    """
    if is_tracing() or is_transformed():  # TorchScript cannot save a Python function
        return x.amax(dim)
    maximum: Tensor = _SharedMax.apply(x, dim)
    return maximum


def z_pool(x: Tensor, dim: int) -> Tensor:
    """Reduce one axis of a map to its maximum and its mean.

    Args:
        x: The map ``(B, C, H, W)``.
        dim: The axis that is reduced: 1, 2 or 3.

    Returns:
        ``(B, 2, P, Q)``, where P and Q are the two axes left, in their order.
    """
    return torch.stack((shared_max(x, dim), x.mean(dim)), 1)


class PlaneGate(nn.Module):
    """Turn a two-channel plane of maxima and means into a gate: convolution, batch norm, sigmoid.

    Args:
        who: The mechanism it is built for, named in errors.
        kernel_size: Odd side of the convolution.
        bias: Whether the convolution has a bias.
        norm: Whether the norm follows it.

    Shape:
        - Input: ``(B, 2, P, Q)``
        - Output: ``(B, 1, P, Q)``, in (0, 1)
    """

    def __init__(self, who: str, kernel_size: int, *, bias: bool = False, norm: bool = True) -> None:
        super().__init__()
        odd(who, kernel_size=kernel_size)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=bias)
        self.norm = nn.BatchNorm2d(1, momentum=0.01) if norm else nn.Identity()

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the gate of each cell."""
        gate: Tensor = self.norm(self.conv(pooled)).sigmoid()
        return gate


class GroupNorm(nn.GroupNorm):
    """Group norm that also takes a single value a group, which becomes the channel's offset.

    The ordinary module refuses it, although nothing is undefined: the value is its own mean. A map of
    one cell needs it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised tensor."""
        if is_transformed():
            x = x.clone(memory_format=torch.contiguous_format)  # PyTorch 2.6 takes no part of a map as it lies
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class ImageNorm(nn.BatchNorm1d):
    """Batch norm of one vector an image.

    One image has no variance over the batch: in training it meets the running statistics, as in evaluation, and leaves
    them as they are, where the ordinary module stops the training run at a last batch of one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised vectors, ``(B, C)``."""
        if len(x) > 1:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
