"""FLatten-Swin: a Swin transformer whose first stages attend to the whole map by focused linear attention.

Paper: FLatten Transformer: Vision Transformer using Focused Linear Attention, Han et al., ICCV 2023, arXiv 2308.00442.
    Swin: Liu et al., ICCV 2021, arXiv 2103.14030.
Code: LeapLabTHU/FLatten-Transformer, models/flatten_swin.py (no licence; Swin's parts MIT), read for parity only.
Differs: The code takes images of one size only; here any size is taken: maps are padded with zeros below and to the
    right where patches do not divide them, padded cells take no attention, and position tables of the linear stages
    are resized bilinearly. The code's linear stages have windows as large as the map they are built for; here they
    attend to the whole map at any size. Windows are not shifted along an axis that one window covers, where Swin
    compares the smaller side and decides for both axes. The later stages' windows are 7 cells wide at any image size;
    the code takes 12 where its linear windows are wider than 56 cells, as for 384 x 384 pixels: window=12 does so here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.checks import divides, positive
from attngraft._core.errors import OptionError
from attngraft.attention._blocks import MLP
from attngraft.attention._rows import Cells
from attngraft.attention.focused_linear import FocusedLinearAttention
from attngraft.attention.hab import WindowAttention
from attngraft.models._official import refuse, renamed, tensors_of
from attngraft.models._pyramid import Block, ChannelNorm, Pyramid, drop_rates, four, map_sizes, pad_to
from attngraft.models._registry import model
from attngraft.models.flatten_pvt import PatchEmbedding, focused_layout, start


class FLattenSwin(Pyramid):
    """Classify images by global linear attention on the fine maps and shifted windows on the coarse ones.

    Args:
        channels: Channels of the four stages.
        depths: Blocks of the four stages.
        heads: Heads of the four stages.
        linear_stages: How many of the stages, from the first, have focused linear attention; 0 for Swin itself.
        window: Side of the other stages' windows in cells; every second block shifts them by half.
        focusing_factor: Power that sharpens queries and keys of the linear attention.
        kernel_size: Odd size of the depthwise convolution over its values.
        image_size: Size of the images for which its position tables are kept, ``(H, W)`` or one number for both.
        mlp_ratio: Width of the MLPs' middle over the channels.
        drop_path: Probability of dropping a branch of the last block while training; earlier ones have less.
        num_classes: Number of classes; 0 for no classifier.
        in_channels: Channels of the image.

    Shape:
        - Input: ``(B, in_channels, H, W)``, any size
        - Output: ``(B, num_classes)``

    Raises:
        OptionError: If an option has not one value a stage, heads do not divide channels, or there are not so many
            stages.

    Example:
        >>> import torch
        >>> tiny = FLattenSwin(channels=(12, 24, 48, 96), depths=(1, 1, 2, 1), image_size=32, num_classes=10)
        >>> tiny(torch.randn(2, 3, 45, 31)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        linear_stages: int = 2,
        window: int = 7,
        focusing_factor: int = 3,
        kernel_size: int = 5,
        image_size: int | tuple[int, int] = 224,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.2,
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        four("FLattenSwin", channels=channels, depths=depths, heads=heads)
        positive("FLattenSwin", window=window)
        sizes = map_sizes("FLattenSwin", image_size)
        if linear_stages not in range(5):
            raise OptionError(f"FLattenSwin needs linear_stages to be 0 to 4, got {linear_stages!r}; the paper has 2")
        for C, h in zip(channels, heads, strict=True):
            divides("FLattenSwin", "heads", h, C)

        focused = partial(FocusedLinearAttention, focusing_factor=focusing_factor, kernel_size=kernel_size)

        def attention(stage: int, block: int) -> nn.Module:
            C, h = channels[stage], heads[stage]
            if stage >= linear_stages:
                return ShiftedWindows(C, heads=h, window=window, shift=window // 2 * (block % 2))
            return focused(C, heads=h, map_size=sizes[stage])

        stages = []
        for stage, rates in enumerate(drop_rates(drop_path, depths)):
            C = channels[stage]
            entry = PatchMerging(channels[stage - 1], C) if stage else PatchEmbedding(in_channels, C, 4)
            blocks = [
                Block(C, attention(stage, i), MLP(C, int(C * mlp_ratio)), drop_path=rate, eps=1e-5)
                for i, rate in enumerate(rates)
            ]
            stages.append(nn.Sequential(entry, *blocks))
        norm = ChannelNorm(channels[-1])
        super().__init__(stages, channels, norm=norm, num_classes=num_classes, in_channels=in_channels)
        self.apply(start)


class PatchMerging(nn.Module):
    """Halve a map: join the channels of 2 x 2 cells, normalise and project them.

    Args:
        before: Channels of the input.
        after: Channels of the output.

    Shape:
        - Input: ``(B, before, H, W)``
        - Output: ``(B, after, H / 2, W / 2)``, rounded up
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * before)
        self.proj = nn.Linear(4 * before, after, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the merged map."""
        tokens = pad_to(x, 2).permute(0, 2, 3, 1)  # (B, H, W, C)
        # The cells of a patch follow each other column by column, as in Swin's weights.
        joined = torch.cat([tokens[:, y::2, x::2] for x in (0, 1) for y in (0, 1)], 3)  # (B, H / 2, W / 2, 4C)
        merged: Tensor = self.proj(self.norm(joined))
        return merged.permute(0, 3, 1, 2)


class ShiftedWindows(WindowAttention):
    """Attend within windows that are shifted along an axis only where it has more than one.

    Args:
        channels: Number of channels C.
        heads: Number of heads; divides C.
        window: Side of a window in cells, M.
        shift: Cells by which the windows are moved down and right, below M.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``
    """

    map_axes = (2, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended map."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``; zero outside their window.

        Args:
            x: ``(B, C, H, W)``.
            cells: The chosen cells.
        """
        return super().attention_rows(x.permute(0, 2, 3, 1), cells)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix before the projection, ``(B, h, N, d)``."""
        return super().attention_values(x.permute(0, 2, 3, 1))

    def _shift_along(self, size: int) -> int:
        if isinstance(size, Tensor):  # a traced number
            return torch.where(size > self.window, self.shift, 0)
        return self.shift if size > self.window else 0

    def _roll(self, x: Tensor, direction: int) -> Tensor:
        for axis in (1, 2):
            size = x.shape[axis]
            cells = torch.arange(size, device=x.device) - direction * self._shift_along(size)
            x = x.index_select(axis, cells % size)
        return x


@model("classify")
def flatten_swin_tiny(**options: Any) -> FLattenSwin:
    """FLatten-Swin-T: 29.2 M parameters, 4.5 G multiply-adds at 224 x 224."""
    return FLattenSwin(**options)


@model("classify")
def flatten_swin_small(**options: Any) -> FLattenSwin:
    """FLatten-Swin-S: 50.5 M parameters, 8.8 G multiply-adds at 224 x 224."""
    return FLattenSwin(**{"depths": (2, 2, 18, 2), "drop_path": 0.3, **options})


@model("classify")
def flatten_swin_base(**options: Any) -> FLattenSwin:
    """FLatten-Swin-B: 89.0 M parameters, 15.5 G multiply-adds at 224 x 224."""
    wider = {"channels": (128, 256, 512, 1024), "heads": (4, 8, 16, 32)}
    return FLattenSwin(**{**wider, "depths": (2, 2, 18, 2), "drop_path": 0.5, **options})


# -- the authors' checkpoints ------------------------------------------------------------------------------------------

_LAYER = r"^layers\.(\d+)\."
_RENAMED = (
    (r"^patch_embed\.proj\.", "stages.0.0.conv."),
    (r"^patch_embed\.norm\.", "stages.0.0.norm."),
    (r"\.attn\.", ".attention."),
    (r"\.positional_encoding$", ".positions"),
    (r"\.relative_position_bias_table$", ".table"),
)
_COMPUTED = ("relative_position_index", "attn_mask")
"""What the authors' code saves although it follows from the sizes."""


def from_official(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename the tensors of an authors' checkpoint, and lay them out, as `FLattenSwin` has them.

    Build the model of the same name and image size, then load; one for 384 x 384 pixels has ``window=12``.

    Args:
        state: The checkpoint as loaded, or its part ``model``.

    Returns:
        A state dict for `FLattenSwin`.

    Raises:
        CheckpointError: If it is no checkpoint of such a network.
    """
    tensors = tensors_of("FLatten-Swin", state, ("patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight"))
    refuse("FLatten-Swin", tensors, "^absolute_pos_embed$", "a table of absolute positions, which ours does not have")
    return {
        _ours(name): _laid_out(name, tensor, tensors)
        for name, tensor in tensors.items()
        if not name.endswith(_COMPUTED)
    }


def _ours(name: str) -> str:
    name = re.sub(_LAYER + r"blocks\.(\d+)", lambda found: f"stages.{found[1]}.{int(found[2]) + 1}", name)
    name = re.sub(_LAYER + r"downsample\.norm", lambda found: f"stages.{int(found[1]) + 1}.0.norm", name)
    name = re.sub(_LAYER + r"downsample\.reduction", lambda found: f"stages.{int(found[1]) + 1}.0.proj", name)
    return renamed(name, _RENAMED)


def _laid_out(name: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """Turn a position table ``(rows, h)`` to ``(h, side, side)``, counted from the query to the key."""
    if name.endswith("relative_position_bias_table"):
        side = math.isqrt(len(tensor))
        return tensor.T.reshape(-1, side, side).flip(1, 2)
    place = name.partition(".attn.")[0]
    return focused_layout(name, tensor) if f"{place}.attn.dwc.weight" in tensors else tensor
