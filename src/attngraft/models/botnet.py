"""BoTNet: a ResNet whose last 3x3 convolutions are self-attention; and the ResNet it is compared with.

Paper: Bottleneck Transformers for Visual Recognition, Srinivas et al., CVPR 2021, arXiv 2101.11605.
Code: The authors' TensorFlow gists aravindsrinivas/56359b79f0ce4449bcb04ab4b56a57a2 (the block) and
    e8a9e33425e10ed0c69c1bf726b81495 (the count of parameters), without licence; timm, models/byobnet.py (Apache-2.0);
    read for parity only.
Differs: Position tables serve images of any size, see `MHSA`. The paper's text has squeeze-and-excitation in the
    blocks that convolve, and its table counts it in all of them, without batch norm, biases and position tables:
    ``se="conv"`` is the text, ``se="all"`` the table.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.checks import feature_map, one_of, positive
from attngraft._core.errors import OptionError
from attngraft.attention.mhsa import MHSA
from attngraft.attention.se import SE
from attngraft.models._registry import model

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}
EXPANSION = 4
"""How many times wider a block's output is than its inside."""


class Bottleneck(nn.Module):
    """A ResNet block: 1x1 convolution, something that mixes cells, 1x1 convolution, and a shortcut around them.

    Parameters have torchvision's names. The last batch norm starts at zero: the block starts as its shortcut.

    Args:
        in_channels: Channels that come in.
        channels: Channels inside, a quarter of those that go out.
        mixer: What stands between the 1x1 convolutions, with this ``stride``; None takes a 3x3 convolution.
        stride: 1 or 2.
        act: ``"relu"`` or ``"silu"``.
        se: Whether the output is gated by squeeze-and-excitation before the shortcut is added.
        shortcut_act: Whether a projecting shortcut ends in the activation.

    Shape:
        - Input: ``(B, in_channels, H, W)``
        - Output: ``(B, 4 * channels, ceil(H / stride), ceil(W / stride))``
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        mixer: nn.Module | None = None,
        stride: int = 1,
        act: str = "relu",
        se: bool = False,
        shortcut_act: bool = False,
    ) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.act = _activation(act)
        self.conv1 = _conv(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = mixer or _conv(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _conv(channels, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        nn.init.zeros_(self.bn3.weight)
        self.se = SE(out_channels, reduction=16, bias=True) if se else None
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            end = [_activation(act)] if shortcut_act else []
            self.downsample = nn.Sequential(
                _conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels), *end
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map."""
        y = self.act(self.bn1(self.conv1(x)))
        y = self.act(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.se is not None:
            y = self.se(y)
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.act(y + shortcut)
        return out


class BoTBlock(Bottleneck):
    """A bottleneck transformer block: a `Bottleneck` that mixes cells by `MHSA`.

    Attention runs at the resolution that comes in; a stride of 2 is an average pool after it, whose cells at an odd
    edge are means of those that are there (TensorFlow's "same").

    Args:
        in_channels: Channels that come in.
        channels: Channels of the attention, a quarter of those that go out.
        size: Rows and columns of the map that the position tables are made for.
        stride: 1 or 2.
        heads: Number of heads.
        position: ``"relative"`` (the paper's), ``"absolute"`` or ``"none"``.
        act: ``"relu"`` or ``"silu"``.
        se: Whether the output is gated by squeeze-and-excitation before the shortcut is added.
        shortcut_act: Whether a projecting shortcut ends in the activation, as in the authors' code.

    Shape:
        - Input: ``(B, in_channels, H, W)``
        - Output: ``(B, 4 * channels, ceil(H / stride), ceil(W / stride))``

    Raises:
        OptionError: If ``stride`` is neither 1 nor 2, or ``heads`` does not divide ``channels``.

    Example:
        >>> import torch
        >>> BoTBlock(64, 32, size=(7, 5), stride=2)(torch.randn(2, 64, 7, 5)).shape
        torch.Size([2, 128, 4, 3])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        size: tuple[int, int],
        stride: int = 1,
        heads: int = 4,
        position: str = "relative",
        act: str = "relu",
        se: bool = False,
        shortcut_act: bool = True,
    ) -> None:
        if stride not in (1, 2):
            raise OptionError(f"BoTBlock needs a stride of 1 or 2, got {stride}")
        mixer: OrderedDict[str, nn.Module] = OrderedDict(
            attention=MHSA(channels, heads=heads, position=position, size=size)
        )
        if stride == 2:
            mixer["pool"] = nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False)
        super().__init__(
            in_channels, channels, mixer=nn.Sequential(mixer), stride=stride, act=act, se=se, shortcut_act=shortcut_act
        )


class BoTNet(nn.Module):
    """A classifier of four stages of `Bottleneck` and `BoTBlock`; without the latter it is a ResNet.

    Parameters that a ResNet has too carry torchvision's names. Images may have any size.

    Attributes:
        channels: Channels of each stage's map, from fine to coarse.
        strides: Pixels of the image to a cell of each.

    Args:
        blocks: The blocks of each stage, a letter a block: ``c`` convolves, ``a`` attends.
        num_classes: Number of classes; 0 leaves the classifier out and gives the pooled features.
        in_channels: Channels of the image.
        image_size: Size of the images that position tables are made for, ``(H, W)`` or one number for both.
        last_stride: Stride of the last stage: 2, or 1 for the S1 models.
        heads: Number of heads.
        position: ``"relative"``, ``"absolute"`` or ``"none"``.
        act: ``"relu"`` or ``"silu"``.
        se: Which blocks have squeeze-and-excitation: ``"none"``, ``"conv"`` (those that convolve) or ``"all"``.
        shortcut_act: Whether projecting shortcuts of attending blocks end in the activation.
        stem: ``"plain"``, a 7x7 convolution; or ``"tiered"``, three 3x3 convolutions.
        width: Channels inside the blocks of the first stage; it doubles with each stage.

    Shape:
        - Input: ``(B, in_channels, H, W)``
        - Output: ``(B, num_classes)``

    Raises:
        OptionError: If an option is none of the values above.

    Example:
        >>> import torch
        >>> net = BoTNet(("c", "c", "c", "aa"), num_classes=10, width=16).eval()
        >>> net(torch.randn(1, 3, 65, 97)).shape, net.channels, net.strides
        (torch.Size([1, 10]), (64, 128, 256, 512), (4, 8, 16, 32))
    """

    def __init__(
        self,
        blocks: Sequence[str],
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        image_size: int | tuple[int, int] = 224,
        last_stride: int = 2,
        heads: int = 4,
        position: str = "relative",
        act: str = "relu",
        se: str = "none",
        shortcut_act: bool = True,
        stem: str = "plain",
        width: int = 64,
    ) -> None:
        super().__init__()
        if len(blocks) != 4 or not all(stage and set(stage) <= set("ca") for stage in blocks):
            raise OptionError(f"BoTNet needs blocks to be four words of the letters c and a, got {blocks!r}")
        one_of("BoTNet", "se", se, ("none", "conv", "all"))
        one_of("BoTNet", "stem", stem, ("plain", "tiered"))
        positive("BoTNet", in_channels=in_channels, width=width, last_stride=last_stride)
        self.blocks = tuple(blocks)
        self.in_channels = in_channels
        self.image_size = size = image_size if isinstance(image_size, tuple) else (image_size, image_size)
        conv: dict[str, Any] = {"act": act, "se": se != "none"}
        attend: dict[str, Any] = {"act": act, "se": se == "all", "heads": heads, "position": position}
        attend["shortcut_act"] = shortcut_act

        self.conv1 = _conv(in_channels, width, 7, 2) if stem == "plain" else _tiered(in_channels, width, act)
        self.bn1 = nn.BatchNorm2d(width)
        self.act = _activation(act)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        stride, before = 4, width
        strides, stages = [], []
        for word, first, inside in zip(blocks, (1, 2, 2, last_stride), _doubled(width), strict=True):
            stage = []
            for letter, step in zip(word, (first, *[1] * (len(word) - 1)), strict=True):
                if letter == "c":
                    stage.append(Bottleneck(before, inside, stride=step, **conv))
                else:
                    at = (-(-size[0] // stride), -(-size[1] // stride))
                    stage.append(BoTBlock(before, inside, stride=step, size=at, **attend))
                stride, before = stride * step, EXPANSION * inside
            strides.append(stride)
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = tuple(EXPANSION * inside for inside in _doubled(width))
        self.strides = tuple(strides)
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Re-initialize the last layer for so many classes; 0 leaves it out and gives the pooled features."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.channels[-1], num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the map of each stage, from fine to coarse."""
        feature_map(self, self.in_channels, x)
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes' logits."""
        logits: Tensor = self.fc(self.forward_features(x)[-1].mean((2, 3)))
        return logits


_DEPTHS = {
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    59: (3, 4, 6, 6),
    77: (3, 4, 6, 12),
    101: (3, 4, 23, 3),
    110: (3, 4, 23, 6),
    128: (3, 4, 23, 12),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
_PUBLISHED = {"t3": (59, 224), "t4": (110, 224), "t5": (128, 256), "t6": (77, 320), "t7": (128, 384)}
"""Depth and image size of the models that the paper names by their cost; T7 is published at 320 too."""


@model("classify", "resnet50", "resnet101", "resnet152", "resnet200")
def resnet(name: str, **options: Any) -> BoTNet:
    """Build the ResNet that the BoTNet of the same depth is compared with."""
    return BoTNet(_convolving(_DEPTHS[int(name.removeprefix("resnet"))]), **options)


@model("classify", "botnet50", "botnet101", "botnet152", "botnet200")
def botnet(name: str, **options: Any) -> BoTNet:
    """Build a ResNet whose last stage attends instead of convolving."""
    return BoTNet(_attending_last(_DEPTHS[int(name.removeprefix("botnet"))]), **options)


@model("classify", *(f"botnet_s1_{depth}" for depth in (50, 59, 77, 110, 128)))
def botnet_s1(name: str, **options: Any) -> BoTNet:
    """Build a BoTNet that keeps stride 16 in its last stage."""
    return BoTNet(_attending_last(_DEPTHS[int(name.removeprefix("botnet_s1_"))]), **{"last_stride": 1, **options})


@model("classify", *(f"botnet_{letter}" for letter in _PUBLISHED))
def botnet_t(name: str, **options: Any) -> BoTNet:
    """Build a BoTNet-S1 as the paper scales it: with SiLU, squeeze-and-excitation and an image size of its own."""
    depth, image_size = _PUBLISHED[name.removeprefix("botnet_")]
    own = {"act": "silu", "se": "conv", "image_size": image_size}
    return botnet_s1(f"botnet_s1_{depth}", **{**own, **options})


@model("classify")
def botnet26t(**options: Any) -> BoTNet:
    """Build the BoTNet-26 with a tiered stem that timm trains at 256 pixels, whose weights `load_timm` takes."""
    own = {"stem": "tiered", "image_size": 256, "shortcut_act": False}
    return _started_as_timm(BoTNet(("cc", "cc", "ca", "aa"), **{**own, **options}))


@model("classify")
def botnet50ts(**options: Any) -> BoTNet:
    """Build timm's BoTNet-50 with a tiered stem and SiLU, which attends in every other block from stage 2 on."""
    own = {"stem": "tiered", "act": "silu", "image_size": 256, "shortcut_act": False}
    return _started_as_timm(BoTNet(("ccc", "ccca", "cacaca", "cac"), **{**own, **options}))


def _started_as_timm(net: BoTNet) -> BoTNet:
    """Draw attention and classifier as timm does; position tables are the same function with 1 for its 1 / sqrt(d)."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, MHSA):
                nn.init.normal_(module.qkv.weight, std=module.channels**-0.5)
                for name, table in module.named_parameters():
                    if name.endswith("_table"):
                        nn.init.normal_(table)
        if isinstance(net.fc, nn.Linear):
            nn.init.normal_(net.fc.weight, std=0.01)
            nn.init.zeros_(net.fc.bias)
    return net


def _convolving(depths: Sequence[int]) -> tuple[str, ...]:
    return tuple("c" * depth for depth in depths)


def _attending_last(depths: Sequence[int]) -> tuple[str, ...]:
    return (*_convolving(depths[:-1]), "a" * depths[-1])


def _doubled(width: int) -> tuple[int, ...]:
    return tuple(width << stage for stage in range(4))


def _activation(name: str) -> nn.Module:
    one_of("BoTNet", "act", name, tuple(ACTIVATIONS))
    return ACTIVATIONS[name](inplace=True)


def _conv(in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _tiered(in_channels: int, width: int, act: str) -> nn.Sequential:
    """Build a stem of three 3x3 convolutions up to the last, whose norm and activation the network has."""
    narrow, middle = 3 * width // 8, width // 2
    return nn.Sequential(
        *(_conv(in_channels, narrow, 3, 2), nn.BatchNorm2d(narrow), _activation(act)),
        *(_conv(narrow, middle, 3), nn.BatchNorm2d(middle), _activation(act)),
        _conv(middle, width, 3),
    )
