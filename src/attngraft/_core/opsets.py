"""Operators that PyTorch's tracing exporter knows in new ONNX opsets only, spelled for older ones too.

Toolkits of accelerators, older TensorRT and OpenCV read opset 11 or 12. PyTorch writes fused attention from opset 14,
`unflatten` from 13 and `grid_sample` from 16, although each is plain arithmetic that opset 11 has. From `OLDEST` on
they are written as that arithmetic; newer opsets are written as PyTorch does.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
import wrapt

OLDEST = 11
"""Opset from which the operators are known; older ones cannot slice by a size that stays open."""
BILINEAR, ZEROS = 0, 0
"""How `grid_sampler` writes its mode and its padding."""


def install() -> None:
    """Teach the exporter when it is imported, which PyTorch puts off until it is used."""
    wrapt.register_post_import_hook(_register, "torch.onnx")


def _register(onnx: ModuleType) -> None:
    from torch.onnx import symbolic_opset13, symbolic_opset14

    onnx.register_custom_op_symbolic(
        "aten::scaled_dot_product_attention", symbolic_opset14.scaled_dot_product_attention, OLDEST
    )
    onnx.register_custom_op_symbolic("aten::unflatten", symbolic_opset13.unflatten, OLDEST)
    onnx.register_custom_op_symbolic("aten::grid_sampler", _grid_sampler, OLDEST)


def _grid_sampler(g: Any, x: Any, grid: Any, mode: Any, padding: Any, align_corners: Any) -> Any:
    """Write bilinear sampling with zeros outside as four weighted look-ups.

    Args:
        g: The exporter's graph.
        x: A map ``(B, C, H, W)``.
        grid: Points ``(B, h, w, 2)``, x before y, from -1 to 1.
        mode: `BILINEAR`.
        padding: `ZEROS`.
        align_corners: Whether -1 and 1 are the centres of the outer cells, and not their edges.
    """
    from torch.onnx import errors, symbolic_helper

    read: Any = symbolic_helper._get_const
    if [read(mode, "i", "mode"), read(padding, "i", "padding")] != [BILINEAR, ZEROS]:
        raise errors.SymbolicValueError("grid_sample below opset 16: bilinear with zeros outside alone", x)
    aligned = read(align_corners, "b", "align_corners")

    def number(value: float) -> Any:
        return g.op("Constant", value_t=torch.tensor(value))

    def integers(*values: int) -> Any:
        return g.op("Constant", value_t=torch.tensor(values))

    def size(axis: int) -> Any:
        return g.op("Cast", g.op("Gather", g.op("Shape", x), integers(axis), axis_i=0), to_i=1)

    def place(axis: int, length: Any) -> Any:
        """Return where points lie along an axis, in cells, ``(B, 1, h * w)``."""
        along = g.op("Reshape", g.op("Gather", grid, integers(axis), axis_i=3), integers(0, 1, -1))
        span = g.op("Sub", length, number(1.0)) if aligned else length
        moved = g.op("Mul", g.op("Add", along, number(1.0)), g.op("Mul", span, number(0.5)))
        return moved if aligned else g.op("Sub", moved, number(0.5))

    width, height = size(3), size(2)
    places = place(0, width), place(1, height)
    firsts = [g.op("Floor", at) for at in places]
    cells = g.op("Reshape", x, integers(0, 0, -1))  # (B, C, H * W)
    total = None
    for step_x, step_y in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        weight, index = None, []
        for at, first, step, length in zip(places, firsts, (step_x, step_y), (width, height), strict=True):
            corner = g.op("Add", first, number(step))
            last = g.op("Sub", length, number(1.0))
            inside = g.op("Min", g.op("Max", corner, number(0.0)), last)
            near = g.op("Sub", number(1.0), g.op("Abs", g.op("Sub", at, corner)))
            near = g.op("Mul", near, g.op("Cast", g.op("Equal", corner, inside), to_i=1))
            weight = near if weight is None else g.op("Mul", weight, near)
            index.append(inside)
        cell = g.op("Cast", g.op("Add", g.op("Mul", index[1], width), index[0]), to_i=7)  # (B, 1, h * w)
        shape = g.op("Concat", g.op("Slice", g.op("Shape", x), integers(0), integers(2)), integers(1), axis_i=0)
        looked_up = g.op("GatherElements", cells, g.op("Expand", cell, shape), axis_i=2)
        part = g.op("Mul", looked_up, weight)
        total = part if total is None else g.op("Add", total, part)
    over = g.op("Slice", g.op("Shape", grid), integers(1), integers(3))
    return g.op("Reshape", total, g.op("Concat", integers(0, -1), over, axis_i=0))
