"""DilateFormer: two stages of dilated windows, then two of global attention.

Paper: DilateFormer: Multi-Scale Dilated Transformer for Visual Recognition, Jiao et al., IEEE TMM 2023, arXiv
    2302.01791.
Code: JIAOJIAYUASD/dilateformer, models/dilateformer.py (no licence), read for parity only.
Differs: The code takes images of one size only, here any size is taken. Its attention overwrites its input, so that it
    cannot be trained in float32; here nothing is overwritten. The paper counts 21 M parameters for the small model, the
    code and this one 24.06 M. Window cells outside the map take attention as zeros, as in paper and code;
    border="mask" keeps them out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from attngraft.attention._blocks import MLP
from attngraft.attention.mha import MHA
from attngraft.attention.msda import MSDA
from attngraft.models._official import pointwise, renamed, tensors_of
from attngraft.models._pyramid import Block, ChannelNorm, Pyramid, drop_rates, four, start_linear
from attngraft.models._registry import model


class DilateFormer(Pyramid):
    """Classify images by dilated windows on the fine maps and global attention on the coarse ones.

    Args:
        channels: Channels of the four stages.
        depths: Blocks of the four stages.
        heads: Heads of the four stages; in the first two a multiple of the number of dilations.
        kernel_size: Odd number of cells along a window's side.
        dilations: Distance in cells between neighbours in a window, one for each group of heads.
        border: "zero" lets window cells outside the map take attention, as the paper does; "mask" does not.
        mlp_ratio: Width of the MLPs' middle over the channels.
        drop_path: Probability of dropping a branch of the last block while training; earlier ones have less.
        num_classes: Number of classes; 0 for no classifier.
        in_channels: Channels of the image.

    Shape:
        - Input: ``(B, in_channels, H, W)``, any size
        - Output: ``(B, num_classes)``

    Raises:
        OptionError: If an option has not one value a stage, or heads and channels do not fit.

    Example:
        >>> import torch
        >>> tiny = DilateFormer(channels=(12, 24, 48, 96), depths=(1, 1, 1, 1), num_classes=10)
        >>> tiny(torch.randn(2, 3, 45, 31)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (72, 144, 288, 576),
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        kernel_size: int = 3,
        dilations: Sequence[int] = (1, 2, 3),
        border: str = "zero",
        mlp_ratio: float = 4.0,
        drop_path: float = 0.1,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        four("DilateFormer", channels=channels, depths=depths, heads=heads)

        windows = partial(MSDA, kernel_size=kernel_size, dilations=dilations, border=border)

        def attention(stage: int) -> nn.Module:
            return (windows if stage < 2 else MHA)(channels[stage], heads=heads[stage])

        stages = []
        for stage, rates in enumerate(drop_rates(drop_path, depths)):
            C = channels[stage]
            entry = _downsample(channels[stage - 1], C) if stage else _stem(in_channels, C)
            blocks = [
                Block(C, attention(stage), MLP(C, int(C * mlp_ratio)), drop_path=rate, convolve=True) for rate in rates
            ]
            stages.append(nn.Sequential(entry, *blocks))
        norm = ChannelNorm(channels[-1], eps=1e-6)
        super().__init__(stages, channels, norm=norm, num_classes=num_classes, in_channels=in_channels)
        self.apply(_start)


def _stem(in_channels: int, channels: int) -> nn.Sequential:
    """Go down to a quarter of the size by overlapping convolutions."""
    widths = (in_channels, 16, 32, 64)
    layers: list[nn.Module] = []
    for before, after, stride in zip(widths, widths[1:], (1, 2, 1), strict=False):
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], channels, 3, 2, 1, bias=False))


def _downsample(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after))


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        start_linear(module)
    elif isinstance(module, MSDA):
        start_linear(module.proj)  # and its qkv as any convolution


@model("classify")
def dilateformer_tiny(**options: Any) -> DilateFormer:
    """DilateFormer-T: 17.2 M parameters, 3.1 G multiply-adds at 224 x 224."""
    return DilateFormer(**options)


@model("classify")
def dilateformer_small(**options: Any) -> DilateFormer:
    """DilateFormer-S: 24.1 M parameters, 4.6 G multiply-adds at 224 x 224."""
    return DilateFormer(**{"depths": (3, 5, 8, 3), **options})


@model("classify")
def dilateformer_base(**options: Any) -> DilateFormer:
    """DilateFormer-B: 47.4 M parameters, 9.9 G multiply-adds at 224 x 224."""
    return DilateFormer(**{"channels": (96, 192, 384, 768), "depths": (4, 8, 10, 3), **options})


# -- the authors' checkpoints ------------------------------------------------------------------------------------------

_STAGE = r"^stages\.(\d+)\."
_RENAMED = ((r"^patch_embed\.proj\.", "stages.0.0."), (r"\.pos_embed\.", ".positions."), (r"\.attn\.", ".attention."))


def from_official(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename the tensors of an authors' checkpoint, and lay them out, as `DilateFormer` has them.

    The options of a network are not in its checkpoint: build the model of the same name, then load.

    Args:
        state: The checkpoint as loaded, or its part ``model``.

    Returns:
        A state dict for `DilateFormer`.

    Raises:
        CheckpointError: If it is no checkpoint of such a network.
    """
    tensors = tensors_of("DilateFormer", state, ("patch_embed.proj.9.weight", "stages.0.blocks.0.attn.qkv.weight"))
    return {_ours(name): _laid_out(name, tensor, tensors) for name, tensor in tensors.items()}


def _ours(name: str) -> str:
    name = re.sub(_STAGE + r"blocks\.(\d+)", lambda found: f"stages.{found[1]}.{int(found[2]) + 1}", name)
    name = re.sub(_STAGE + r"downsample\.proj", lambda found: f"stages.{int(found[1]) + 1}.0", name)
    return renamed(name, _RENAMED)


def _laid_out(name: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Turn the output projection of a dilated attention, whose input projection is a convolution, to one as well."""
    place, _, layer = name.rpartition(".proj.")
    windows = layer == "weight" and place.endswith(".attn") and tensors[f"{place}.qkv.weight"].dim() == 4
    return pointwise(tensor) if windows else tensor
