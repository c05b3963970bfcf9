"""FLatten-PVT and FLatten-PVTv2: pyramid vision transformers with focused linear attention in all stages.

Paper: FLatten Transformer: Vision Transformer using Focused Linear Attention, Han et al., ICCV 2023, arXiv 2308.00442.
    The pyramids: Wang et al., ICCV 2021, arXiv 2102.12122, and CVMJ 2022, arXiv 2106.13797.
Code: LeapLabTHU/FLatten-Transformer, models/flatten_pvt.py and flatten_pvt_v2.py (no licence), read for parity only.
Differs: The code takes images of one size only; here any size is taken: position tables are resized bilinearly, and
    where FLatten-PVT's patches do not divide a map, it is padded with zeros below and to the right. The code of
    FLatten-PVT builds a last normalisation, counts its parameters and never applies it; here it is applied, as in PVT,
    and final_norm=False leaves it out. PVT's class token is replaced by the mean over cells, as in the code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.errors import CheckpointError
from attngraft.attention._blocks import MLP
from attngraft.attention.focused_linear import FocusedLinearAttention
from attngraft.models._official import pointwise, refuse, renamed, square_map, tensors_of
from attngraft.models._pyramid import Block, ChannelNorm, Pyramid, drop_rates, four, map_sizes, pad_to, start_linear
from attngraft.models._registry import model

WIDTHS = (64, 128, 320, 512)
HEADS = (1, 2, 5, 8)
MLP_RATIOS = (8, 8, 4, 4)


class FLattenPVT(Pyramid):
    """Classify images by a pyramid of patches that do not overlap.

    Args:
        channels: Channels of the four stages.
        depths: Blocks of the four stages.
        heads: Heads of the four stages.
        mlp_ratios: Width of the MLPs' middle over the channels, in the four stages.
        focusing_factor: Power that sharpens queries and keys.
        kernel_size: Odd size of the depthwise convolution over the values.
        image_size: Size of the images for which the position tables are kept, ``(H, W)`` or one number for both.
        final_norm: Whether the last map is normalised before its mean is taken.
        drop_path: Probability of dropping a branch of the last block while training; earlier ones have less.
        num_classes: Number of classes; 0 for no classifier.
        in_channels: Channels of the image.

    Shape:
        - Input: ``(B, in_channels, H, W)``, any size
        - Output: ``(B, num_classes)``

    Raises:
        OptionError: If an option has not one value a stage, or heads do not divide channels.

    Example:
        >>> import torch
        >>> tiny = FLattenPVT(channels=(8, 16, 40, 64), depths=(1, 1, 1, 1), image_size=32, num_classes=10)
        >>> tiny(torch.randn(2, 3, 45, 31)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = WIDTHS,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = HEADS,
        mlp_ratios: Sequence[float] = MLP_RATIOS,
        focusing_factor: int = 3,
        kernel_size: int = 5,
        image_size: int | tuple[int, int] = 224,
        final_norm: bool = True,
        drop_path: float = 0.1,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        four("FLattenPVT", channels=channels, depths=depths, heads=heads, mlp_ratios=mlp_ratios)
        sizes = map_sizes("FLattenPVT", image_size)
        focused = partial(FocusedLinearAttention, focusing_factor=focusing_factor, kernel_size=kernel_size)
        stages = []
        for stage, rates in enumerate(drop_rates(drop_path, depths)):
            C, size, hidden = channels[stage], sizes[stage], int(channels[stage] * mlp_ratios[stage])
            entry = PatchEmbedding(channels[stage - 1] if stage else in_channels, C, 2 if stage else 4, size)
            blocks = [
                Block(C, focused(C, heads=heads[stage], map_size=size), MLP(C, hidden), drop_path=rate)
                for rate in rates
            ]
            stages.append(nn.Sequential(entry, *blocks))
        norm = ChannelNorm(channels[-1], eps=1e-6) if final_norm else nn.Identity()
        super().__init__(stages, channels, norm=norm, num_classes=num_classes, in_channels=in_channels)
        self.apply(start)


class PatchEmbedding(nn.Module):
    """Turn each patch of a map into a normalised cell, and add a position table, resized to the map.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        patch: Side of a patch in cells.
        map_size: Height and width in cells at which the position table is kept; None for no table.

    Shape:
        - Input: ``(B, before, H, W)``
        - Output: ``(B, after, H / patch, W / patch)``, rounded up
    """

    def __init__(self, before: int, after: int, patch: int, map_size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.patch = patch
        self.conv = nn.Conv2d(before, after, patch, patch)
        self.norm = ChannelNorm(after)
        table = None if map_size is None else torch.empty(after, *map_size)
        self.positions = None if table is None else nn.Parameter(nn.init.trunc_normal_(table, std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        """Return the cells with their positions."""
        cells: Tensor = self.norm(self.conv(pad_to(x, self.patch)))
        if self.positions is None:
            return cells
        return cells + F.interpolate(self.positions[None], size=cells.shape[2:], mode="bilinear", align_corners=False)


class FLattenPVTv2(Pyramid):
    """Classify images by a pyramid of overlapping patches, with depthwise convolutions inside the MLPs.

    Args:
        channels: Channels of the four stages.
        depths: Blocks of the four stages.
        heads: Heads of the four stages.
        mlp_ratios: Width of the MLPs' middle over the channels, in the four stages.
        focusing_factor: Power that sharpens queries and keys.
        kernel_size: Odd size of the depthwise convolution over the values.
        image_size: Size of the images for which the position tables are kept, ``(H, W)`` or one number for both.
        drop_path: Probability of dropping a branch of the last block while training; earlier ones have less.
        num_classes: Number of classes; 0 for no classifier.
        in_channels: Channels of the image.

    Shape:
        - Input: ``(B, in_channels, H, W)``, any size
        - Output: ``(B, num_classes)``

    Raises:
        OptionError: If an option has not one value a stage, or heads do not divide channels.

    Example:
        >>> import torch
        >>> tiny = FLattenPVTv2(channels=(8, 16, 40, 64), depths=(1, 1, 1, 1), image_size=32, num_classes=10)
        >>> tiny(torch.randn(2, 3, 45, 31)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = WIDTHS,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = HEADS,
        mlp_ratios: Sequence[float] = MLP_RATIOS,
        focusing_factor: int = 3,
        kernel_size: int = 5,
        image_size: int | tuple[int, int] = 224,
        drop_path: float = 0.1,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        four("FLattenPVTv2", channels=channels, depths=depths, heads=heads, mlp_ratios=mlp_ratios)
        sizes = map_sizes("FLattenPVTv2", image_size)
        focused = partial(FocusedLinearAttention, focusing_factor=focusing_factor, kernel_size=kernel_size)
        stages = []
        for stage, rates in enumerate(drop_rates(drop_path, depths)):
            C, size, hidden = channels[stage], sizes[stage], int(channels[stage] * mlp_ratios[stage])
            entry = nn.Conv2d(channels[stage - 1], C, 3, 2, 1) if stage else nn.Conv2d(in_channels, C, 7, 4, 3)
            blocks = [
                Block(C, focused(C, heads=heads[stage], map_size=size), ConvolvedMLP(C, hidden), drop_path=rate)
                for rate in rates
            ]
            stages.append(nn.Sequential(entry, ChannelNorm(C), *blocks, ChannelNorm(C, eps=1e-6)))
        super().__init__(stages, channels, norm=nn.Identity(), num_classes=num_classes, in_channels=in_channels)
        self.apply(_start_v2)


class ConvolvedMLP(MLP):
    """Two linear layers with a depthwise 3x3 convolution and a GELU between them.

    Args:
        channels: Width of the input and the output.
        hidden: Width between the two layers.

    Shape:
        - Input: ``(B, H, W, C)``
        - Output: ``(B, H, W, C)``
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(channels, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``fc2(gelu(conv(fc1(x))))``."""
        hidden = self.conv(self.fc1(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (B, H, W, hidden)
        y: Tensor = self.fc2(self.act(hidden))
        return y


def start(module: nn.Module) -> None:
    """Draw the weights of linear layers, and of the projections that the attention writes as convolutions."""
    if isinstance(module, nn.Linear):
        start_linear(module)
    elif isinstance(module, FocusedLinearAttention):
        start_linear(module.qkv)
        start_linear(module.proj)


def _start_v2(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    start(module)


@model("classify")
def flatten_pvt_tiny(**options: Any) -> FLattenPVT:
    """FLatten-PVT-T: 12.2 M parameters, 2.0 G multiply-adds at 224 x 224."""
    return FLattenPVT(**options)


@model("classify")
def flatten_pvt_small(**options: Any) -> FLattenPVT:
    """FLatten-PVT-S: 21.7 M parameters, 4.0 G multiply-adds at 224 x 224."""
    return FLattenPVT(**{"depths": (3, 4, 6, 3), **options})


@model("classify")
def flatten_pvt_medium(**options: Any) -> FLattenPVT:
    """FLatten-PVT-M: 37.2 M parameters, 7.1 G multiply-adds at 224 x 224."""
    return FLattenPVT(**{"depths": (3, 4, 18, 3), "drop_path": 0.3, **options})


@model("classify")
def flatten_pvt_large(**options: Any) -> FLattenPVT:
    """FLatten-PVT-L: 50.6 M parameters, 10.4 G multiply-adds at 224 x 224."""
    return FLattenPVT(**{"depths": (3, 8, 27, 3), "drop_path": 0.3, **options})


@model("classify")
def flatten_pvt_v2_b0(**options: Any) -> FLattenPVTv2:
    """FLatten-PVTv2-B0: 3.6 M parameters, 0.6 G multiply-adds at 224 x 224."""
    return FLattenPVTv2(**{"channels": (32, 64, 160, 256), **options})


@model("classify")
def flatten_pvt_v2_b1(**options: Any) -> FLattenPVTv2:
    """FLatten-PVTv2-B1: 12.9 M parameters, 2.2 G multiply-adds at 224 x 224."""
    return FLattenPVTv2(**options)


@model("classify")
def flatten_pvt_v2_b2(**options: Any) -> FLattenPVTv2:
    """FLatten-PVTv2-B2: 22.5 M parameters, 4.3 G multiply-adds at 224 x 224."""
    return FLattenPVTv2(**{"depths": (3, 4, 6, 3), **options})


@model("classify")
def flatten_pvt_v2_b3(**options: Any) -> FLattenPVTv2:
    """FLatten-PVTv2-B3: 38.3 M parameters, 7.3 G multiply-adds at 224 x 224."""
    return FLattenPVTv2(**{"depths": (3, 4, 18, 3), "drop_path": 0.3, **options})


@model("classify")
def flatten_pvt_v2_b4(**options: Any) -> FLattenPVTv2:
    """FLatten-PVTv2-B4: 51.8 M parameters, 10.7 G multiply-adds at 224 x 224."""
    return FLattenPVTv2(**{"depths": (3, 8, 27, 3), "drop_path": 0.3, **options})


# -- the authors' checkpoints ------------------------------------------------------------------------------------------

_FOCUSED = ((r"\.attn\.", ".attention."), (r"\.positional_encoding$", ".positions"), (r"\.dwconv\.dwconv\.", ".conv."))


def from_official(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename the tensors of an authors' checkpoint, and lay them out, as `FLattenPVT` or `FLattenPVTv2` has them.

    Build the model of the same name and image size, then load. FLatten-PVT needs ``final_norm=False``: its code never
    applies the last norm, and so no weights of it are given.

    Args:
        state: The checkpoint as loaded, or its part ``model``.

    Returns:
        A state dict.

    Raises:
        CheckpointError: If it is no checkpoint of such a network, or of one with reduced keys or softmax attention.
    """
    first = "block1.0.attn."
    tensors = tensors_of("FLatten-PVT", state, ("patch_embed1.proj.weight", f"{first}q.weight", f"{first}kv.weight"))
    refuse(
        "FLatten-PVT", tensors, r"\.attn\.(sr|norm)\.", "keys of reduced size, which the published models do not have"
    )
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place, _, kind = name.partition(".attn.")
        if kind and f"{place}.attn.dwc.weight" not in tensors:
            raise CheckpointError(f"{place} has softmax attention (attn_type S), which our FLatten-PVT does not have")
        if kind.startswith("q."):
            kv = tensors[f"{place}.attn.kv.{kind[2:]}"]
            tensor, name = torch.cat([tensor, kv]), f"{place}.attn.qkv.{kind[2:]}"
        if not kind.startswith("kv.") and (found := _ours(name, tensors)) is not None:
            ours[found] = focused_layout(name, tensor)
    return ours


def _ours(name: str, tensors: Mapping[str, Tensor]) -> str | None:
    """Return our name of a tensor; None for the norm that FLatten-PVT never applies."""
    second = "pos_embed1" not in tensors  # PVTv2

    def block(found: re.Match[str]) -> str:
        return f"stages.{int(found[1]) - 1}.{int(found[2]) + (2 if second else 1)}."

    def entry(found: re.Match[str]) -> str:
        layers = {"proj": "0", "norm": "1"} if second else {"proj": "0.conv", "norm": "0.norm"}
        return f"stages.{int(found[1]) - 1}.{layers[found[2]]}."

    def last_norm(found: re.Match[str]) -> str:
        depth = sum(key.startswith(f"block{found[1]}.") and key.endswith(".norm1.weight") for key in tensors)
        return f"stages.{int(found[1]) - 1}.{depth + 2}."

    if name.startswith("norm."):
        return None
    name = re.sub(r"^block(\d+)\.(\d+)\.", block, name)
    name = re.sub(r"^patch_embed(\d+)\.(proj|norm)\.", entry, name)
    name = re.sub(r"^norm(\d+)\.", last_norm, name)
    name = re.sub(r"^pos_embed(\d+)$", lambda found: f"stages.{int(found[1]) - 1}.0.positions", name)
    return renamed(name, _FOCUSED)


def focused_layout(name: str, tensor: Tensor) -> Tensor:
    """Lay a tensor of the authors' focused linear attention, or a position table, out as ours."""
    if re.search(r"^pos_embed\d+$|\.positional_encoding$", name):
        return square_map(name, tensor)
    if name.endswith(".attn.scale"):
        return tensor.flatten()
    return pointwise(tensor) if re.search(r"\.attn\.(qkv|proj)\.weight$", name) else tensor
