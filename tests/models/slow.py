"""Layers written from their definitions, for the references of whole models; maps are ``(B, C, H, W)``."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALL = {
    "channels": (4, 6, 8, 6),
    "depths": (1, 2, 2, 1),
    "heads": (2, 3, 2, 1),
    "image_size": (50, 41),
    "num_classes": 4,
}
"""Options of a small FLatten network."""

SIDES = [(32, 32), (37, 23), (1, 2)]
"""Heights and widths of images: even, odd and unequal, and smaller than a patch."""


def randomised(model: nn.Module) -> nn.Module:
    """Move every number away from its start, statistics too, and make the model double and deterministic."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return model.double().eval()


def convolve(x: Tensor, conv: nn.Conv2d, *, stride: int = 1, padding: int = 1, groups: int = 1) -> Tensor:
    k = conv.weight.shape[2]
    padded = F.pad(x, (padding,) * 4)
    H, W = ((size - k) // stride + 1 for size in padded.shape[2:])
    out = x.new_zeros(len(x), len(conv.weight), H, W)
    for i in range(k):
        for j in range(k):
            seen = padded[:, :, i : i + stride * (H - 1) + 1 : stride, j : j + stride * (W - 1) + 1 : stride]
            weight = conv.weight[:, :, i, j].unflatten(0, (groups, -1))
            out += torch.einsum("bgchw,goc->bgohw", seen.unflatten(1, (groups, -1)), weight).flatten(1, 2)
    return out if conv.bias is None else out + conv.bias[:, None, None]


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    mean, deviation, weight, bias = (
        t[:, None, None] for t in (norm.running_mean, (norm.running_var + 1e-5).sqrt(), norm.weight, norm.bias)
    )
    return (x - mean) / deviation * weight + bias


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise over the channels."""
    centred = x - x.mean(1, keepdim=True)
    deviation = (centred.square().mean(1, keepdim=True) + eps).sqrt()
    return centred / deviation * weight[:, None, None] + bias[:, None, None]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer to each cell."""
    out = torch.einsum("bchw,oc->bohw", x, weight)
    return out if bias is None else out + bias[:, None, None]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def resize(table: Tensor, height: int, width: int) -> Tensor:
    """Resize a table ``(C, h, w)`` bilinearly, centres of cells on centres, as images are."""

    def place(cell: int, size: int, old: int) -> tuple[int, int, float]:
        at = max((cell + 0.5) * old / size - 0.5, 0)
        return int(at), min(int(at) + 1, old - 1), at - int(at)

    out = table.new_empty(len(table), height, width)
    for y in range(height):
        for x in range(width):
            top, bottom, down = place(y, height, table.shape[1])
            left, right, along = place(x, width, table.shape[2])
            upper = table[:, top, left] * (1 - along) + table[:, top, right] * along
            lower = table[:, bottom, left] * (1 - along) + table[:, bottom, right] * along
            out[:, y, x] = upper * (1 - down) + lower * down
    return out


def patches(x: Tensor, side: int) -> Tensor:
    """Cut a map into patches, with zeros beyond its end: ``(B, C, H / side, W / side, side, side)``, rounded up."""
    B, C, H, W = x.shape
    out = x.new_zeros(B, C, -(-H // side), -(-W // side), side, side)
    for y in range(H):
        for column in range(W):
            out[:, :, y // side, column // side, y % side, column % side] = x[:, :, y, column]
    return out


def classify(x: Tensor, head: nn.Linear) -> Tensor:
    return x.mean((2, 3)) @ head.weight.T + head.bias


def normed(x: Tensor, norm: nn.LayerNorm, eps: float) -> Tensor:
    return layer_norm(x, norm.weight, norm.bias, eps)


def embed(x: Tensor, entry: nn.Module, side: int) -> Tensor:
    cells = torch.einsum("bchwij,ocij->bohw", patches(x, side), entry.conv.weight) + entry.conv.bias[:, None, None]
    return normed(cells, entry.norm, 1e-5)


def block_reference(block: nn.Module, x: Tensor, eps: float) -> Tensor:
    x = x + block.attention(normed(x, block.norm1, eps))
    hidden = linear(normed(x, block.norm2, eps), block.mlp.fc1.weight, block.mlp.fc1.bias)
    if hasattr(block.mlp, "conv"):
        hidden = convolve(hidden, block.mlp.conv, groups=hidden.shape[1])
    return x + linear(gelu(hidden), block.mlp.fc2.weight, block.mlp.fc2.bias)
