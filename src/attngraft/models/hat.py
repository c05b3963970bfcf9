"""HAT: an image two, three or four times as large, by window attention, channel attention and overlapping windows.

Paper: Activating More Pixels in Image Super-Resolution Transformer, Chen et al., CVPR 2023, arXiv 2205.04437; and HAT:
    Hybrid Attention Transformer for Image Restoration, arXiv 2309.05239.
Code: XPixelGroup/HAT, hat/archs/hat_arch.py (Apache-2.0), read for parity only.
Differs: The code's network takes images of whole windows, and its test pipeline reflects the image below and to the
    right and cuts the result; here both are a part of the network, also for images smaller than what is reflected. The
    position tables have a layout of their own: `from_official` converts a checkpoint of the authors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.checks import feature_map, is_tracing, positive
from attngraft._core.errors import CheckpointError, OptionError
from attngraft.attention.hab import HAB
from attngraft.attention.ocab import OCAB
from attngraft.models._pyramid import ChannelNorm, drop_rates, start_linear
from attngraft.models._registry import model

MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of the DIV2K training images, red, green, blue, which the network subtracts."""

RECONSTRUCTION = 64
"""Channels of the layers that enlarge the map."""


class HAT(nn.Module):
    """Enlarge an image.

    Args:
        scale: How many times as large the result is: 3 or a power of 2.
        channels: Number of channels C of the layers.
        depths: Hybrid attention blocks of each group.
        heads: Number of attention heads; divides C.
        window: Side of a window in cells.
        overlap: How much wider the overlapping windows of keys are, as a fraction.
        compress: Narrowing ratio of the convolution blocks, see `CAB`.
        squeeze: Narrowing ratio of their gates, see `CAB`.
        conv_scale: Factor on the convolution blocks where they are added.
        mlp_ratio: Width of the MLPs' middle over C.
        border: "zero" lets keys outside the map take attention in the overlapping windows, as the authors' code does;
            "mask" does not.
        drop_path: Probability of dropping a branch of the last block while training; earlier ones have less.

    Shape:
        - Input: ``(B, 3, H, W)`` from 0 to 1, any size
        - Output: ``(B, 3, scale * H, scale * W)``

    Raises:
        OptionError: If the scale cannot be made, or heads, windows or ratios do not fit.

    Example:
        >>> tiny = HAT(scale=2, channels=12, depths=(1, 1), heads=2, window=4, squeeze=4)
        >>> tiny(torch.rand(1, 3, 7, 5)).shape
        torch.Size([1, 3, 14, 10])
    """

    mean: Tensor

    def __init__(
        self,
        *,
        scale: int = 4,
        channels: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        heads: int = 6,
        window: int = 16,
        overlap: float = 0.5,
        compress: int = 3,
        squeeze: int = 30,
        conv_scale: float = 0.01,
        mlp_ratio: float = 2.0,
        border: str = "zero",
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        factors = _factors(scale)
        self.scale = scale
        self.window = window
        local = {"compress": compress, "squeeze": squeeze}
        block = partial(HAB, channels, heads=heads, window=window, mlp_ratio=mlp_ratio, conv_scale=conv_scale, **local)
        link = partial(OCAB, channels, heads=heads, window=window, mlp_ratio=mlp_ratio, overlap=overlap, border=border)
        self.entry = nn.Conv2d(3, channels, 3, padding=1)
        self.norm1 = ChannelNorm(channels)
        self.groups = nn.Sequential()
        for rates in drop_rates(drop_path, depths):
            blocks = [block(shift=window // 2 * (i % 2), drop_path=rate) for i, rate in enumerate(rates)]
            self.groups.append(ResidualGroup(channels, blocks, link()))
        self.norm2 = ChannelNorm(channels)
        self.body = nn.Conv2d(channels, channels, 3, padding=1)
        width = RECONSTRUCTION
        self.narrow = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU())
        self.enlarge = nn.Sequential()
        for factor in factors:
            self.enlarge.extend([nn.Conv2d(width, factor**2 * width, 3, padding=1), nn.PixelShuffle(factor)])
        self.exit = nn.Conv2d(width, 3, 3, padding=1)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.apply(_start)

    def forward(self, x: Tensor) -> Tensor:
        """Return the enlarged image, not clipped to the range from 0 to 1."""
        feature_map(self, 3, x)
        height, width = self.scale * x.shape[2], self.scale * x.shape[3]
        shallow = self.entry(reflect_to(x, self.window) - self.mean)  # (B, C, H', W')
        deep = self.body(self.norm2(self.groups(self.norm1(shallow))))
        large: Tensor = self.exit(self.enlarge(self.narrow(shallow + deep)))
        return large[:, :, :height, :width] + self.mean


class ResidualGroup(nn.Module):
    """Pass a map through blocks, a last one that links windows, and a convolution; add it (RHAG in the paper).

    Args:
        channels: Number of channels C.
        blocks: Modules that keep the shape of a map.
        overlap: The last of them.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``
    """

    def __init__(self, channels: int, blocks: Sequence[nn.Module], overlap: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.overlap = overlap
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with the group's share added."""
        share: Tensor = self.conv(self.overlap(self.blocks(x)))
        return x + share


def reflect_to(x: Tensor, step: int) -> Tensor:
    """Reflect an image ``(B, C, H, W)`` below and to the right, so that ``step`` divides both sides.

    An image smaller than what is missing is reflected back and forth, which `torch.nn.functional.pad` refuses.

    Example:
        >>> reflect_to(torch.tensor([0.0, 1.0, 2.0]).view(1, 1, 1, 3), 8)[0, 0, 0].tolist()
        [0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0]
    """
    for axis in (2, 3):
        size = x.shape[axis]
        missing = -size % step
        if is_tracing() or missing:
            x = x.index_select(axis, _back_and_forth(size, size + missing, x.device))
    return x


def _back_and_forth(size: int, count: int, device: torch.device) -> Tensor:
    """Return ``count`` indices that run from 0 to ``size - 1`` and back again."""
    last = size - 1
    period = 2 * last + (last == 0)
    place = torch.arange(count, device=device) % period
    return last - (place - last).abs()


def _factors(scale: int) -> list[int]:
    """Return the steps in which a map is enlarged."""
    positive("HAT", scale=scale)
    if scale == 3:
        return [3]
    if scale == 1 or scale & (scale - 1):
        raise OptionError(f"HAT needs a scale of 3 or a power of 2, got {scale}; the paper has 2, 3 and 4")
    return [2] * (scale.bit_length() - 1)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        start_linear(module)


@model("superres")
def hat_s(**options: Any) -> HAT:
    """HAT-S: 9.6 M parameters, 54.9 G multiply-adds at scale 4 for 64 x 64 pixels."""
    return HAT(**{"channels": 144, "compress": 24, "squeeze": 24, **options})


@model("superres")
def hat(**options: Any) -> HAT:
    """HAT: 20.8 M parameters, 104 G multiply-adds at scale 4 for 64 x 64 pixels."""
    return HAT(**options)


@model("superres")
def hat_l(**options: Any) -> HAT:
    """HAT-L: 40.8 M parameters, 203 G multiply-adds at scale 4 for 64 x 64 pixels."""
    return HAT(**{"depths": (6,) * 12, **options})


# -- the authors' checkpoints ------------------------------------------------------------------------------------------

_RENAMED = (
    (r"^conv_first\.", "entry."),
    (r"^patch_embed\.norm\.", "norm1."),
    (r"^layers\.", "groups."),
    (r"^norm\.", "norm2."),
    (r"^conv_after_body\.", "body."),
    (r"^conv_before_upsample\.", "narrow."),
    (r"^upsample\.", "enlarge."),
    (r"^conv_last\.", "exit."),
    (r"\.residual_group\.blocks\.", ".blocks."),
    (r"\.residual_group\.overlap_attn\.", ".overlap."),
    (r"\.conv_block\.cab\.0\.", ".cab.conv1."),
    (r"\.conv_block\.cab\.2\.", ".cab.conv2."),
    (r"\.conv_block\.cab\.3\.attention\.1\.", ".cab.gate1."),
    (r"\.conv_block\.cab\.3\.attention\.3\.", ".cab.gate2."),
    (r"\.relative_position_bias_table$", ".table"),
)
_COMPUTED = ("relative_position_index", "attn_mask")
"""What some versions of the authors' code save although it follows from the sizes."""


def from_official(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename the tensors of an authors' checkpoint, and lay them out, as `HAT` has them.

    The options of a network are not in its checkpoint: build the model of the same name and scale, then load.

    Args:
        state: The checkpoint as loaded, or its part ``params_ema`` or ``params``.

    Returns:
        A state dict for `HAT`.

    Raises:
        CheckpointError: If it is no checkpoint of such a network.
    """
    tensors: Mapping[str, Tensor] = state.get("params_ema", state.get("params", state))
    inner = tensors.get("layers.0.residual_group.blocks.0.attn.relative_position_bias_table")
    if inner is None or "conv_last.weight" not in tensors:
        raise CheckpointError(
            f"a HAT checkpoint has tensors conv_first.weight to conv_last.weight, got {_first_names(tensors)}; "
            "give a file of the authors' networks with pixel-shuffle"
        )
    window = (_side(inner) + 1) // 2
    return {
        _renamed(key): _laid_out(key, tensor, window)
        for key, tensor in tensors.items()
        if not any(computed in key for computed in _COMPUTED)
    }


def _renamed(key: str) -> str:
    for pattern, name in _RENAMED:
        key = re.sub(pattern, name, key)
    return key


def _laid_out(key: str, tensor: Tensor, window: int) -> Tensor:
    """Turn a position table ``(rows, h)`` to ``(h, side, side)``, counted from the query to the key."""
    if not key.endswith("relative_position_bias_table"):
        return tensor
    side = _side(tensor)
    if ".overlap_attn." not in key:
        return tensor.T.reshape(-1, side, side).flip(1, 2)
    key_window = side + 1 - window
    first = (key_window - 2) * (window + key_window)  # the authors' index starts below zero and wraps around
    return tensor.roll(first, 0).T.reshape(-1, side, side)


def _side(table: Tensor) -> int:
    return math.isqrt(len(table))


def _first_names(tensors: Mapping[str, Any]) -> str:
    return ", ".join(map(str, list(tensors)[:3])) or "none"
