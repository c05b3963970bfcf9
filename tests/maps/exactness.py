"""An oracle for any model: what each attention says that it mixed, against what its last projection was given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft import maps

BESIDE = {"AreaAttention": "position", "BRA": "side", "PSAAttention": "position", "Attention": "pe", "AAttn": "pe"}
"""Children whose output is added to the mixture before the last projection, by class."""


def check(model: nn.Module, *inputs: Any) -> dict[str, tuple[int, ...]]:
    """Compare every attention of a float64 model, and return the shapes of their rows."""
    caught: dict[str, Tensor] = {}
    handles = []
    with maps.record(model) as tape:
        for name, attention in tape.attentions.items():
            handles += _read_off(name, attention, caught)
        model(*inputs)
    for handle in handles:
        handle.remove()
    shapes = {}
    for name, attention in tape.attentions.items():
        rows, values = attention.rows(), attention.values()
        shapes[name] = tuple(rows.shape)
        said = (rows @ values).transpose(1, 2).flatten(2)  # (B, N, C)
        ran = caught[name]
        if type(attention.module).__name__ == "AIFI":
            last = attention.module.ma.out_proj  # which no hook can stand before
            ran = torch.linalg.solve(last.weight, (ran - last.bias).mT).mT
        if type(attention.module).__name__ == "FocusedLinearAttention":
            said = said + _focused_side(attention.module, values, attention.grid)
        gathered = attention.mixed().transpose(1, 2).flatten(2)  # (B, N, C), head after head
        torch.testing.assert_close(gathered, ran.expand_as(gathered), atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(said, ran - caught.get(f"{name} beside", 0), atol=1e-8, rtol=1e-8)
    return shapes


def _read_off(name: str, attention: maps.RecordedAttention, caught: dict[str, Tensor]) -> list[Any]:
    mixture = attention._how.mixture
    assert mixture is not None
    child = attention.module.get_submodule(mixture.enters)
    takes_input = bool(mixture.enters) and not isinstance(child, nn.MultiheadAttention)

    def tokens(value: Tensor) -> Tensor:
        if mixture.layout == "cells":
            H, W = attention.grid or (0, 0)
            return value[:, :H, :W].flatten(1, 2)
        return value.flatten(2).transpose(1, 2) if mixture.layout == "map" else value

    def note(_module: nn.Module, inputs: Any, output: Any) -> None:
        caught[name] = tokens(inputs[0] if takes_input else output[0] if isinstance(output, tuple) else output)

    handles = [child.register_forward_hook(note)]
    beside = BESIDE.get(type(attention.module).__name__)
    if beside:

        def note_beside(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            caught[f"{name} beside"] = output.flatten(2).transpose(1, 2)

        handles.append(attention.module.get_submodule(beside).register_forward_hook(note_beside))
    return handles


def _focused_side(module: Any, values: Tensor, grid: tuple[int, int]) -> Tensor:
    v = values.transpose(2, 3).flatten(1, 2).unflatten(2, grid)
    weight, bias = (t.repeat(module.heads, *(1,) * (t.dim() - 1)) for t in (module.dwc.weight, module.dwc.bias))
    return F.conv2d(v, weight, bias, padding=module.kernel_size // 2, groups=v.shape[1]).flatten(2).transpose(1, 2)
