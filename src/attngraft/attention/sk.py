"""SelectiveKernel: convolve at several kernel sizes, and let each channel choose among the results by a softmax.

Paper: Selective Kernel Networks (SKNet), Li et al., CVPR 2019, arXiv 1903.06586.
Code: implus/SKNet, models/sknet50.prototxt (no licence), figures only; written from the paper's equations.
Differs: The paper normalises the hidden layer of the choice over the images of a batch, which fails in training where
    the last batch has one image: the default has no norm there but a bias, norm="batch" is the paper's, and a lone
    image then meets the running statistics. Most copies take the sizes 1, 3, 5 and 7 without groups and without
    dilation, and drop the ReLU of the hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.checks import divides, largest_divisor, odd, one_of, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._gates import ImageNorm

GROUPS = 32


@register(
    name="sk",
    role="mixer",
    family="multi-scale convolution",
    year=2019,
    formula="sum_k a_k * U_k, U_k = relu(BN(conv_k(x))), a = softmax_k(A_k relu(W mean_HW(sum_k U_k)))",
    cost="N * taps + C * hidden * (1 + branches)",
    row=("kernel_sizes",),
    aliases=("SKAttention", "SKConv"),
    signatures=(("kernel_sizes", "reduction", "groups", "least"),),
    alias_defaults={"SKAttention": {"kernel_sizes": (1, 3, 5, 7), "groups": 1, "dilated": False}},
    growth="N",
)
class SelectiveKernel(Attention):
    """Convolve the map at several sizes and add the results, weighted against each other by channel.

    It is the SK convolution of SKNet, which stands there in the place of a 3x3 convolution. In training the batch norms
    need more than one cell in the batch: a single 1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        kernel_sizes: Odd sides of what each convolution sees; at least two.
        reduction: How many times narrower the hidden layer of the choice is than C.
        groups: Number of groups of each convolution; divides C.
        least: The fewest hidden channels.
        dilated: Whether sizes above 3 are 3x3 filters, spread out, as the paper has them, or full ones.
        norm: ``"batch"`` normalises the hidden layer over the images of a batch, as the paper does; ``"none"`` does
            not.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If there are fewer than two sizes, one is even, or ``groups`` does not divide C.

    Example:
        >>> import torch
        >>> SelectiveKernel(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    no_map = "it chooses between convolutions for each channel of an image as a whole, not for places of the map"

    def __init__(
        self,
        channels: int,
        *,
        kernel_sizes: Sequence[int] = (3, 5),
        reduction: int = 16,
        groups: int = GROUPS,
        least: int = 32,
        dilated: bool = True,
        norm: str = "none",
    ) -> None:
        super().__init__(channels)
        who = "SelectiveKernel"
        if len(kernel_sizes) < 2:
            raise OptionError(f"{who} needs two kernel_sizes or more to choose from, got {kernel_sizes!r}; use (3, 5)")
        for size in kernel_sizes:
            odd(who, kernel_size=size)
        positive(who, reduction=reduction, least=least)
        divides(who, "groups", groups, channels)
        one_of(who, "norm", norm, ("none", "batch"))
        self.kernel_sizes = tuple(kernel_sizes)
        self.reduction = reduction
        self.groups = groups
        self.least = least
        self.dilated = dilated
        self.norm = norm
        self.hidden = max(channels // reduction, least)
        self.branches = len(self.kernel_sizes)
        self.convs = nn.ModuleList(self._convolution(size) for size in self.kernel_sizes)
        self.taps = sum(p.numel() for p in self.convs.parameters() if p.dim() == 4)
        self.squeeze = nn.Linear(channels, self.hidden, bias=norm == "none")
        self.squeeze_norm = ImageNorm(self.hidden) if norm == "batch" else nn.Identity()
        self.select = nn.Linear(self.hidden, self.branches * channels, bias=False)

    def _convolution(self, size: int) -> nn.Sequential:
        dilation = size // 2 if self.dilated and size > 3 else 1
        side = 3 if dilation > 1 else size
        conv = nn.Conv2d(
            self.channels, self.channels, side, padding=size // 2, dilation=dilation, groups=self.groups, bias=False
        )
        return nn.Sequential(conv, nn.BatchNorm2d(self.channels), nn.ReLU())

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Take the largest number of groups up to the default that divides the width."""
        return {"groups": largest_divisor(channels, GROUPS)} if channels % GROUPS else {}

    def forward(self, x: Tensor) -> Tensor:
        """Return the chosen mixture of the convolutions."""
        self.check(x)
        views = torch.stack([conv(x) for conv in self.convs], 1)  # (B, branches, C, H, W)
        hidden = self.squeeze_norm(self.squeeze(views.sum(1).mean((2, 3)))).relu()
        choice = torch.unflatten(self.select(hidden), 1, (self.branches, -1)).softmax(1)  # (B, branches, C)
        return (views * choice[..., None, None]).sum(1)
