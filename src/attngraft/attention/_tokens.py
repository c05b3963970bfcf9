"""Cells of a map as tokens, and back, and the tokens of attention heads.

Every mechanism goes through `to_tokens` and `to_map`. The view ``x.flatten(2).transpose(1, 2)`` gives the same numbers,
but with one image it leaves the batch axis a stride that PyTorch's batch norm on the CPU misreads: the gradients of the
layer before it are then wrong, and nothing says so (2.13, 2.14.1).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import is_as_built, largest_divisor


def fit_heads(channels: int, default: int) -> dict[str, Any]:
    """Return the override with the most heads up to the default where that does not divide the width.

    Example:
        >>> fit_heads(256, 8), fit_heads(60, 8)
        ({}, {'heads': 6})
    """
    return {"heads": largest_divisor(channels, default)} if channels % default else {}


def psa_heads(channels: int) -> int:
    """Return the heads that Ultralytics' C2PSA gives its blocks: one for each 64 channels.

    Example:
        >>> psa_heads(128), psa_heads(32)
        (2, 1)
    """
    return max(channels // 64, 1)


def to_tokens(x: Tensor) -> Tensor:
    """Turn a map into its cells, row by row, without a copy where the map lies channels last.

    Args:
        x: A map ``(B, C, H, W)``.

    Returns:
        Tokens ``(B, H * W, C)``.
    """
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """Turn cells, row by row, into a map: undo `to_tokens`.

    Args:
        tokens: Tokens ``(B, H * W, C)``.
        height: Rows of the map, H.
        width: Columns of the map, W.

    Returns:
        The map ``(B, C, H, W)``.
    """
    return tokens.reshape(tokens.shape[0], height, width, -1).permute(0, 3, 1, 2)


def to_heads(tokens: Tensor, heads: int) -> Tensor:
    """Cut the channels of tokens into heads, without a copy.

    Args:
        tokens: Tokens ``(B, N, heads * d)``.
        heads: Number of heads.

    Returns:
        Tokens of each head, ``(B, heads, N, d)``.
    """
    B, N, _ = tokens.shape
    return tokens.reshape(B, N, heads, -1).transpose(1, 2)


def convolve_heads(layer: nn.Module, x: Tensor, heads: int) -> Tensor:
    """Convolve the channels of each head by the same filters.

    Args:
        layer: A depth-wise ``Conv2d`` over the d channels of a head, with a bias.
        x: A map ``(B, heads * d, H, W)``.
        heads: Number of heads.

    Returns:
        The convolved map, ``(B, heads * d, H, W)``.
    """
    if is_as_built(layer, nn.Conv2d) and layer.bias is not None:
        weight, bias = layer.weight.repeat(heads, 1, 1, 1), layer.bias.repeat(heads)
        return F.conv2d(x, weight, bias, padding=layer.padding, groups=x.shape[1])
    convolved: Tensor = layer(x.reshape(-1, x.shape[1] // heads, *x.shape[2:]))
    return convolved.reshape(x.shape)
