"""Attention over a large map is exported in slices of its queries: at any size, with the numbers of the module."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from attngraft import export
from attngraft.attention import MHSA, _kernel_stock
from tests.export.kit import FORMATS, write

MAP = (6, 7)
HEADS = 4
CELLS = 6 * 7
ROW = HEADS * 7 * CELLS
"""Logits of one row of queries."""
OTHERS = [(1, 8, 5, 9), (2, 8, 13, 4), (1, 8, 11, 11), (1, 8, 2, 3), (1, 8, 1, 1)]
"""Larger and smaller maps, of other proportions, and of fewer rows than there are slices."""


def attention(position: str) -> MHSA:
    """Build one whose logits differ enough for a misplaced row to show."""
    module = MHSA(8, heads=HEADS, position=position, size=MAP).eval()
    nn.init.normal_(module.qkv.weight, std=0.5)
    return module


@pytest.fixture(params=[1, 2, 6], ids="{} rows".format)
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Cut the map into slices of so many rows."""
    monkeypatch.setattr(_kernel_stock, "SLICE", request.param * ROW)
    return request.param


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("position", ["relative", "none"])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_dynamic_file_gives_the_numbers_at_every_size(kind: str, position: str, tmp_path: Path) -> None:
    module = attention(position)
    exported = write(kind, module, tmp_path, torch.randn(1, 8, *MAP), dynamic=True)
    for shape in [(1, 8, *MAP), *OTHERS]:
        x = torch.randn(shape)
        torch.testing.assert_close(torch.from_numpy(exported(x)[0]), module(x), atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("rows")
def test_the_oldest_opset_takes_slices(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the [export] extra")
    module = attention("relative")
    exported = export.to_onnx(module, torch.randn(1, 8, *MAP), tmp_path / "model.onnx", dynamic=True, opset=11)
    for shape in OTHERS:
        x = torch.randn(shape)
        torch.testing.assert_close(torch.from_numpy(exported(x)[0]), module(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("position", ["relative", "absolute", "circulated", "none"])
def test_no_tensor_of_the_graph_is_larger_than_a_slice(position: str, rows: int, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the [export] extra")
    exported = write("onnx", attention(position), tmp_path, torch.randn(1, 8, *MAP))
    graph = onnx.shape_inference.infer_shapes(onnx.load(exported.path), strict_mode=True).graph
    sizes = [[d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.value_info]
    assert max(map(math.prod, sizes)) == rows * ROW
    assert sum(node.op_type == "Softmax" for node in graph.node) == 6 // rows
