"""Modules to export, and how to write one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attngraft import export
from attngraft.export import Exported

RUNTIME = {"onnx": "onnxruntime", "openvino": "openvino", "torchscript": "torch"}
SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".torchscript"}
FORMATS = list(SUFFIX)


class Attend(nn.Module):
    """Self-attention of a map that asks for its size at every call; two outputs, nested."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(8, 24, 1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, 2)  # (B, N, C)
        y = (q @ k.transpose(1, 2)).softmax(-1) @ v  # (B, N, C)
        return self.norm(y.transpose(1, 2).reshape(x.shape)), [x.mean((2, 3))]


class FixedTable(nn.Module):
    """Keep a position table for the size that came first, as a Python-side cache does."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[tuple[int, int], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        H, W = int(x.shape[2]), int(x.shape[3])
        if (H, W) not in self.cache:
            self.cache[H, W] = torch.linspace(0, 1, H * W).view(H, W)
        return x + self.cache[H, W]


def write(kind: str, module: nn.Module, folder: Path, x: Tensor, **options: bool) -> Exported:
    pytest.importorskip(RUNTIME[kind], reason="needs the [export] extra")
    function: Callable[..., Exported] = getattr(export, f"to_{kind}")
    if kind == "torchscript":
        options.pop("dynamic", None)
    return function(module, x, folder / f"model{SUFFIX[kind]}", **options)
