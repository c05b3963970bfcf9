"""RFAConv: a convolution whose taps are weighted, cell by cell and channel by channel, by what they see.

Paper: RFAConv: Innovating Spatial Attention and Standard Convolutional Operation, Zhang et al., 2023, arXiv 2304.03198.
Code: Liuchen1997/RFAConv, model.py (no licence), RFAConv2, read for parity only.
Differs: Nothing in the output. The last convolution reads the weighted taps where they are; the reference spreads them
    over a map k times as large and convolves that at a stride of k, which is the same sum. It has no bias, which its
    batch norm would cancel. Strides other than 1 are not built: the map keeps its size.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft._core.checks import odd, positive
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._conv import conv_norm
from attngraft.attention._official import renamed, without_bias


@register(
    name="rfa",
    role="mixer",
    family="receptive-field convolution",
    year=2023,
    formula="relu(BN(W (softmax_k(w_k pool_k(x)) * relu(BN(DW_k x))))), kernel_size^2 features a channel and cell",
    cost="N * C * kernel_size**2 * (1 + kernel_size**2 + C)",
    row=("kernel_size",),
    aliases=("RFA",),
    signatures=(("kernel_size", "stride"),),
    growth="N",
)
class RFAConv(Attention):
    """Convolve features of each cell's surroundings, weighted against each other there.

    It stands in the place of a convolution. In training the batch norms need more than one cell in the batch: a single
    1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        kernel_size: Odd side of the surroundings in cells; each cell has its square of features in each channel.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``kernel_size`` is even or below 1.

    Example:
        >>> import torch
        >>> RFAConv(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    no_map = "it weighs features of one cell against each other, not places of the map"

    def __init__(self, channels: int, *, kernel_size: int = 3) -> None:
        super().__init__(channels)
        positive("RFAConv", channels=channels)
        odd("RFAConv", kernel_size=kernel_size)
        self.kernel_size = kernel_size
        features = channels * kernel_size**2
        self.weigh = nn.Conv2d(channels, features, 1, groups=channels, bias=False)
        self.spread = nn.Sequential(
            nn.Conv2d(channels, features, kernel_size, padding=kernel_size // 2, groups=channels, bias=False),
            nn.BatchNorm2d(features),
        )
        self.merge = conv_norm(features, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved map."""
        self.check(x)
        pooled = F.avg_pool2d(x, self.kernel_size, stride=1, padding=self.kernel_size // 2)
        taps = (self.channels, self.kernel_size**2)
        weights = torch.unflatten(self.weigh(pooled), 1, taps).softmax(2)  # (B, C, k * k, H, W)
        features = torch.unflatten(self.spread(x).relu(), 1, taps)
        merged: Tensor = self.merge((features * weights).flatten(1, 2)).relu()
        return merged


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' ``RFAConv`` of as many channels out as in, and lay them out as ours.

    Args:
        state: Its state dict.

    Returns:
        A state dict for `RFAConv`.

    Raises:
        CheckpointError: If it is no state of such a module.
    """
    names = {
        "get_weight.1": "weigh", "generate_feature.0": "spread.0", "generate_feature.1": "spread.1",
        "conv.0": "merge.0", "conv.1": "merge.1",
    }  # fmt: skip
    return merged_taps(renamed("RFAConv", state, names))


def merged_taps(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the last convolution of a state, of stride k, to one over the taps, and move its bias into its norm."""
    state["merge.0.weight"] = state["merge.0.weight"].flatten(1)[..., None, None]
    without_bias(state, "merge.0", "merge.1")
    return state
