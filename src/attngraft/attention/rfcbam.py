"""RFCBAMConv: a convolution whose taps are gated by the mean of their channel, and by what all channels have there.

Paper: RFAConv: Innovating Spatial Attention and Standard Convolutional Operation, Zhang et al., 2023, arXiv 2304.03198.
Code: Liuchen1997/RFAConv, model.py (no licence), RFCBAMConv, read for parity only.
Differs: Nothing in the output. The channel gate has 16 hidden channels at any width, as in the reference, where the
    number stands in the place of a ratio. The last convolution reads the weighted taps where they are; it has no bias,
    which its batch norm would cancel. Strides other than 1 are not built. A maximum attained by several channels shares
    its gradient among them, where the reference gives it to one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from attngraft._core.checks import odd, positive
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._conv import conv_norm
from attngraft.attention._gates import z_pool
from attngraft.attention._official import renamed
from attngraft.attention.rfa import merged_taps


@register(
    name="rfcbam",
    role="mixer",
    family="receptive-field convolution",
    year=2023,
    formula="relu(BN(W (F * sigmoid(W2 relu(W1 mean_HW(x))) * sigmoid(conv3([max_C; mean_C of F spread out]))))), "
    "F = relu(BN(DW_k x)), kernel_size^2 features of each channel and cell",
    cost="N * kernel_size**2 * (C * kernel_size**2 + C**2 + 18) + 2 * C * hidden",
    row=("kernel_size",),
    aliases=("RFCBAM",),
    signatures=(("kernel_size", "stride"),),
    growth="N",
)
class RFCBAMConv(Attention):
    """Convolve features of each cell's surroundings, gated by channel and by place within the surroundings.

    It stands in the place of a convolution. In training the batch norms need more than one cell in the batch: a single
    1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        kernel_size: Odd side of the surroundings in cells; each cell has its square of features in each channel.
        hidden: Channels of the hidden layer of the channel gate.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``kernel_size`` is even, or a number is below 1.

    Example:
        >>> import torch
        >>> RFCBAMConv(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    no_map = "it gates the taps of a convolution, several for each cell, not places of the map"

    def __init__(self, channels: int, *, kernel_size: int = 3, hidden: int = 16) -> None:
        super().__init__(channels)
        positive("RFCBAMConv", channels=channels, hidden=hidden)
        odd("RFCBAMConv", kernel_size=kernel_size)
        self.kernel_size = kernel_size
        self.hidden = hidden
        features = channels * kernel_size**2
        self.squeeze = nn.Linear(channels, hidden, bias=False)
        self.excite = nn.Linear(hidden, channels, bias=False)
        self.spread = nn.Sequential(
            nn.Conv2d(channels, features, kernel_size, padding=kernel_size // 2, groups=channels, bias=False),
            nn.BatchNorm2d(features),
        )
        self.plane = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        self.merge = conv_norm(features, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved map."""
        self.check(x)
        features = torch.unflatten(
            self.spread(x).relu(), 1, (self.channels, self.kernel_size**2)
        )  # (B, C, k * k, H, W)
        by_channel = self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None, None]
        weighted = features * by_channel * self._by_place(features)
        merged: Tensor = self.merge(weighted.flatten(1, 2)).relu()
        return merged

    def _by_place(self, features: Tensor) -> Tensor:
        """Return the gate of each tap of each cell, ``(B, 1, k * k, H, W)``, from its neighbours on the spread map."""
        k = self.kernel_size
        planes = torch.unflatten(z_pool(features, 1), 2, (k, k))  # (B, 2, k, k, H, W): maxima and means over channels
        gate = self.plane(planes.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)).sigmoid()  # (B, 1, H * k, W * k)
        taps: Tensor = torch.unflatten(torch.unflatten(gate, 3, (-1, k)), 2, (-1, k))  # (B, 1, H, k, W, k)
        return taps.permute(0, 1, 3, 5, 2, 4).flatten(2, 3)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' ``RFCBAMConv`` of as many channels out as in, and lay them out as ours.

    Args:
        state: Its state dict.

    Returns:
        A state dict for `RFCBAMConv`.

    Raises:
        CheckpointError: If it is no state of such a module.
    """
    names = {
        "se.fc.0": "squeeze", "se.fc.2": "excite", "generate.0": "spread.0", "generate.1": "spread.1",
        "get_weight.0": "plane", "conv.0": "merge.0", "conv.1": "merge.1",
    }  # fmt: skip
    return merged_taps(renamed("RFCBAMConv", state, names))
