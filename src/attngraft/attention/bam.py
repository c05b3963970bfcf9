"""BAM: gate every value by one plus a sigmoid, of a logit of its channel and one of its cell.

Paper: BAM: Bottleneck Attention Module, Park et al., BMVC 2018, arXiv 1807.06514.
Code: Jongchan/attention-module, MODELS/bam.py (MIT), read for parity only.
Differs: The equations add both logits, the default; the authors' code multiplies them, combine="product". The paper
    normalises the hidden layer of the channel gate over the images of a batch, which fails in training where the last
    batch has one image: the default has no norm there, norm="batch" is the paper's, and a lone image then meets the
    running statistics. Layers before a batch norm have no bias, which it would cancel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from attngraft._core.checks import one_of, positive
from attngraft._core.registry import Disputed, register
from attngraft.attention._base import Attention
from attngraft.attention._conv import conv_norm
from attngraft.attention._gates import ImageNorm, fit_reduction, hidden_channels
from attngraft.attention._official import renamed, without_bias

CONVOLUTIONS = 2


@register(
    role="gate",
    family="channel and spatial gate",
    year=2018,
    formula="x * (1 + sigmoid(W2 relu(W1 mean_HW(x)) + conv1 relu BN conv3 relu BN conv3 relu BN conv1 x)), "
    "the conv3 dilated",
    cost="2 * C * hidden + N * hidden * (C + 18 * hidden + 1)",
    row=("reduction", "dilation"),
    aliases=("BAMBlock",),
    alias_defaults={
        "BAMBlock": {"dilation": Disputed((4, 2), ", and those of 2 have three layers for our one and two, with norms")}
    },
    growth="N",
)
class BAM(Attention):
    """Gate channels by their means and cells by their surroundings, both in one sigmoid.

    In training the batch norms need more than one cell in the batch: a single 1x1 map is refused by PyTorch.

    Args:
        channels: Number of channels C.
        reduction: How many times narrower the hidden layers of both branches are than C; at most C.
        dilation: Distance in cells between the taps of the two 3x3 convolutions.
        combine: ``"sum"`` of both logits, as the paper has it, or their ``"product"``, as its code.
        norm: ``"batch"`` normalises the hidden layer of the channel gate over the images of a batch, as the paper does;
            ``"none"`` does not.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``reduction`` leaves no hidden channel, or an option is none of its values.

    Example:
        >>> import torch
        >>> BAM(64)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 64, 7, 5])
    """

    def __init__(
        self, channels: int, *, reduction: int = 16, dilation: int = 4, combine: str = "sum", norm: str = "none"
    ) -> None:
        super().__init__(channels)
        positive("BAM", dilation=dilation)
        one_of("BAM", "combine", combine, ("sum", "product"))
        one_of("BAM", "norm", norm, ("none", "batch"))
        hidden = hidden_channels("BAM", channels, reduction)
        self.reduction = reduction
        self.dilation = dilation
        self.combine = combine
        self.norm = norm
        self.hidden = hidden
        self.squeeze = nn.Linear(channels, hidden, bias=norm == "none")
        self.squeeze_norm = ImageNorm(hidden) if norm == "batch" else nn.Identity()
        self.excite = nn.Linear(hidden, channels)
        self.reduce = conv_norm(channels, hidden)
        self.surroundings = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation, bias=False), nn.BatchNorm2d(hidden)
            )
            for _ in range(CONVOLUTIONS)
        )
        self.plane = nn.Conv2d(hidden, 1, 1)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower ``reduction`` on maps narrower than its default."""
        return fit_reduction(channels, 16)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated map."""
        self.check(x)
        return x * self.gate_map(x)

    def gate_map(self, x: Tensor) -> Tensor:
        """Return the gate, ``(B, C, H, W)``, from 1 to 2."""
        by_channel = self.excite(self.squeeze_norm(self.squeeze(x.mean((2, 3)))).relu())[:, :, None, None]
        cells = self.reduce(x).relu()  # (B, hidden, H, W)
        for conv in self.surroundings:
            cells = conv(cells).relu()
        by_cell = self.plane(cells)  # (B, 1, H, W)
        logits: Tensor = by_channel + by_cell if self.combine == "sum" else by_channel * by_cell
        return 1 + logits.sigmoid()


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the authors' ``BAM``, and move biases into the norms behind them.

    Args:
        state: Its state dict.

    Returns:
        A state dict for ``BAM(channels, combine="product", norm="batch")``.

    Raises:
        CheckpointError: If it is no state of such a module.
    """
    channel, cell = "channel_att.gate_c.gate_c", "spatial_att.gate_s.gate_s"
    names = {
        f"{channel}_fc_0": "squeeze", f"{channel}_bn_1": "squeeze_norm", f"{channel}_fc_final": "excite",
        f"{cell}_conv_reduce0": "reduce.0", f"{cell}_bn_reduce0": "reduce.1", f"{cell}_conv_final": "plane",
    }  # fmt: skip
    layers = [("squeeze", "squeeze_norm"), ("reduce.0", "reduce.1")]
    for i in range(CONVOLUTIONS):
        names |= {f"{cell}_conv_di_{i}": f"surroundings.{i}.0", f"{cell}_bn_di_{i}": f"surroundings.{i}.1"}
        layers.append((f"surroundings.{i}.0", f"surroundings.{i}.1"))
    found = renamed("BAM", state, names)
    for layer, norm in layers:
        without_bias(found, layer, norm)
    return found
