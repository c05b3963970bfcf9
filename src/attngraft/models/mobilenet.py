"""MobileNetV3-small, with any mechanism of the zoo where it has squeeze-and-excitation: with MLCA, MAY's backbone.

Paper: Mixed local channel attention for object detection, Wan et al., Engineering Applications of Artificial
    Intelligence 123, 2023, whose MAY this is the backbone of; Searching for MobileNetV3, Howard et al., ICCV 2019,
    arXiv 1905.02244.
Code: wandahangFY/MLCA, models/mobilenetv3-MLCA.yaml and models/common.py (GPL-3.0); torchvision,
    models/mobilenetv3.py (BSD-3-Clause); read for parity only.
Differs: Nothing from the authors' backbone of MAY: its gates stand before the activation of the depth-wise convolution
    in the eight layers that widen, and after it in the first. ``gate="se"`` has MobileNetV3's order, after the
    activation, and differs from torchvision's in this: the gate is a sigmoid and not its piecewise linear form, its
    inner width is a quarter of the layer's and not rounded to a multiple of 8, and batch norms have PyTorch's eps of
    1e-5 and momentum of 0.1 where torchvision's recipe has 1e-3 and 0.01.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from attngraft._core.checks import feature_map, one_of, positive
from attngraft._core.registry import fitted, mechanism
from attngraft.models._registry import model


class Layer(NamedTuple):
    """One row of the paper's table.

    Attributes:
        kernel_size: Side of the depth-wise filters.
        hidden: Channels between the 1x1 convolutions.
        channels: Channels that go out.
        gated: Whether there is a gate.
        hard: Whether the activations are hard-swish, or ReLU.
        stride: 1 or 2.
    """

    kernel_size: int
    hidden: int
    channels: int
    gated: bool
    hard: bool
    stride: int


STEM = 16
STAGES = (
    (Layer(3, 16, 16, True, False, 2),),
    (Layer(3, 72, 24, False, False, 2), Layer(3, 88, 24, False, False, 1)),
    (
        Layer(5, 96, 40, True, True, 2),
        Layer(5, 240, 40, True, True, 1),
        Layer(5, 240, 40, True, True, 1),
        Layer(5, 120, 48, True, True, 1),
        Layer(5, 144, 48, True, True, 1),
    ),
    (Layer(5, 288, 96, True, True, 2), Layer(5, 576, 96, True, True, 1), Layer(5, 576, 96, True, True, 1)),
)
"""The layers at strides 4, 8, 16 and 32."""

LAST, PENULTIMATE = 576, 1024
"""Channels of the last convolution, and of the layer before the classes."""

ORDERS = ("before", "after")

GATE_OPTIONS: dict[str, dict[str, Any]] = {"se": {"reduction": 4, "bias": True}}
"""Options that MobileNetV3 gives a gate."""


class InvertedResidual(nn.Module):
    """Widen, convolve each channel for itself, gate, narrow; with a shortcut where the shapes agree.

    Args:
        in_channels: Channels that come in.
        layer: The row of the table.
        gate: What the widened map goes through; None for nothing.
        gate_first: Whether the gate stands before the activation of the depth-wise convolution, or after it.

    Shape:
        - Input: ``(B, in_channels, H, W)``
        - Output: ``(B, layer.channels, ceil(H / layer.stride), ceil(W / layer.stride))``
    """

    gate_first = False
    """What layers have that were pickled before there was a choice."""

    def __init__(
        self, in_channels: int, layer: Layer, gate: nn.Module | None = None, *, gate_first: bool = False
    ) -> None:
        super().__init__()
        self.gate_first = gate_first
        hidden, hard = layer.hidden, layer.hard
        self.widen = _conv(in_channels, hidden, hard=hard) if hidden != in_channels else nn.Identity()
        self.depthwise = _conv(hidden, hidden, layer.kernel_size, layer.stride, groups=hidden, hard=hard)
        self.gate = gate or nn.Identity()
        self.narrow = _conv(hidden, layer.channels, hard=None)
        self.shortcut = layer.stride == 1 and in_channels == layer.channels

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's map."""
        y = self.widen(x)
        if self.gate_first:
            conv, norm, act = self.depthwise
            y = act(self.gate(norm(conv(y))))
        else:
            y = self.gate(self.depthwise(y))
        y = self.narrow(y)
        return x + y if self.shortcut else y


class MobileNetV3(nn.Module):
    """Classify images with few multiply-adds; the gates of nine of its eleven layers can be any mechanism.

    Attributes:
        channels: Channels of each stage's map, from fine to coarse.
        strides: Pixels of the image to a cell of each.

    Args:
        gate: Name of a mechanism, such as ``"se"`` (the paper's) or ``"mlca"`` (MAY's); ``"none"`` for none.
        gate_options: Its options; MobileNetV3's own where None is given.
        gate_order: "before" puts the gate before the activation of the depth-wise convolution in every layer that
            widens, as MAY's authors do; "after" puts it after, as MobileNetV3 does; None takes "after" for ``"se"``.
        num_classes: Number of classes; 0 leaves the classifier out and gives the pooled features.
        in_channels: Channels of the image.
        dropout: Share of the features dropped before the classes while training.

    Shape:
        - Input: ``(B, in_channels, H, W)``
        - Output: ``(B, num_classes)``

    Raises:
        OptionError: If the order is none of these.
        UnknownNameError: If there is no such mechanism.

    Example:
        >>> import torch
        >>> net = MobileNetV3(gate="mlca", num_classes=10).eval()
        >>> net(torch.randn(1, 3, 65, 97)).shape, net.channels, net.strides
        (torch.Size([1, 10]), (16, 24, 48, 96), (4, 8, 16, 32))
    """

    def __init__(
        self,
        *,
        gate: str = "se",
        gate_options: Mapping[str, Any] | None = None,
        gate_order: str | None = None,
        num_classes: int = 1000,
        in_channels: int = 3,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        positive("MobileNetV3", in_channels=in_channels)
        self.in_channels = in_channels
        self.stem = _conv(in_channels, STEM, 3, 2, hard=True)
        options = GATE_OPTIONS.get(gate, {}) if gate_options is None else gate_options
        order = gate_order or ("after" if gate == "se" else "before")
        one_of("MobileNetV3", "gate_order", order, ORDERS)
        before, stages = STEM, []
        for rows in STAGES:
            stage = []
            for row in rows:
                gated = row.gated and gate != "none"
                module = _gate(gate, row.hidden, options) if gated else None
                first = gated and order == "before" and row.hidden != before
                stage.append(InvertedResidual(before, row, module, gate_first=first))
                before = row.channels
            stages.append(nn.Sequential(*stage))
        self.layers = nn.ModuleList(stages)
        self.channels = tuple(rows[-1].channels for rows in STAGES)
        self.strides = (4, 8, 16, 32)
        self.dropout = dropout
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head[-1] if isinstance(self.head, nn.Sequential) else self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Re-initialize what follows the stages for so many classes; 0 leaves it out and gives the pooled features."""
        self.num_classes = num_classes
        self.last = _conv(self.channels[-1], LAST, hard=True) if num_classes else nn.Identity()
        self.head = _classifier(num_classes, self.dropout) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the map of each stage, from fine to coarse."""
        feature_map(self, self.in_channels, x)
        x = self.stem(x)
        maps = []
        for layer in self.layers:
            x = layer(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits."""
        logits: Tensor = self.head(self.last(self.forward_features(x)[-1]).mean((2, 3)))
        return logits


@model("classify")
def mobilenetv3_small(**options: Any) -> MobileNetV3:
    """Build MobileNetV3-small; with ``gate="mlca"`` it is the backbone of MAY."""
    return MobileNetV3(**options)


def _classifier(num_classes: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(LAST, PENULTIMATE), nn.Hardswish(), nn.Dropout(dropout), nn.Linear(PENULTIMATE, num_classes)
    )


def _gate(name: str, channels: int, options: Mapping[str, Any]) -> nn.Module:
    cls: Any = mechanism(name).cls
    module: nn.Module = cls(channels, **{**fitted(cls, channels), **options})
    return module


def _conv(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, *, groups: int = 1, hard: bool | None
) -> nn.Sequential:
    """Build a convolution, its norm and its activation: hard-swish, ReLU, or none where ``hard`` is None."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    act = () if hard is None else (nn.Hardswish() if hard else nn.ReLU(),)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *act)
