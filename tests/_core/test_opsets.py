"""Operators of new opsets, written for old ones: every mechanism at opset 12, at its sizes and at others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attngraft import export
from attngraft._core import opsets
from attngraft._core.registry import fitted
from attngraft.attention import mechanism, names

onnx = pytest.importorskip("onnx", reason="needs the [export] extra")
pytest.importorskip("onnxruntime", reason="needs the [export] extra")


def operators(file: Path) -> set[str]:
    return {node.op_type for node in onnx.load(file).graph.node}


@pytest.mark.filterwarnings("ignore")  # what the tracer guesses may go wrong: the comparison finds out
@pytest.mark.parametrize("name", names())
def test_every_mechanism_is_written_at_opset_12(name: str, tmp_path: Path) -> None:
    cls = mechanism(name).cls
    module = cls(32, **fitted(cls, 32)).eval()
    for parameter in module.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    # By PyTorch alone: whoever calls it has imported a mechanism and nothing else of ours.
    torch.onnx.export(
        module, (torch.randn(1, 32, 8, 12),), str(tmp_path / "model.onnx"), opset_version=12, dynamo=False,
        input_names=["x"], dynamic_axes={"x": {0: "b", 2: "h", 3: "w"}},
    )  # fmt: skip
    file = export.load(tmp_path / "model.onnx")
    deviation = export.parity(module, file, [torch.randn(1, 32, 8, 12), torch.randn(3, 32, 9, 5)])
    assert deviation.within, str(deviation)
    assert deviation.outputs[0].relative < 1e-4
    assert onnx.load(file.path).opset_import[0].version == 12


class Samples(nn.Module):
    def __init__(self, aligned: bool, mode: str = "bilinear", padding: str = "zeros") -> None:
        super().__init__()
        self.options = {"align_corners": aligned, "mode": mode, "padding_mode": padding}

    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, **self.options)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("opset", [opsets.OLDEST, 15, 18])
def test_sampling_is_that_of_pytorch_outside_and_on_the_edges_too(aligned: bool, opset: int, tmp_path: Path) -> None:
    def inputs(height: int, width: int, batch: int) -> tuple[Tensor, Tensor]:
        grid = torch.rand(batch, 7, 3, 2) * 3 - 1.5
        grid[:, 0] = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 1.0]])
        return torch.randn(batch, 4, height, width), grid

    file = export.to_onnx(Samples(aligned), inputs(5, 8, 2), tmp_path / "model.onnx", opset=opset, dynamic=False)
    assert ("GridSample" in operators(file.path)) == (opset >= 16)
    deviation = export.parity(Samples(aligned), file, [inputs(5, 8, 2), inputs(5, 8, 2)])
    assert deviation.outputs[0].relative < 1e-5, str(deviation)


@pytest.mark.parametrize(("mode", "padding"), [("nearest", "zeros"), ("bilinear", "border")])
def test_other_sampling_names_the_opset_that_has_it(mode: str, padding: str, tmp_path: Path) -> None:
    x = torch.randn(1, 2, 4, 4), torch.rand(1, 3, 3, 2)
    with pytest.raises(ValueError, match=r"Samples cannot be written .*opset 12 .*lowest that works is opset=16"):
        export.to_onnx(Samples(True, mode, padding), x, tmp_path / "model.onnx", opset=12)
    assert not list(tmp_path.iterdir())


def test_new_opsets_are_written_as_pytorch_does(tmp_path: Path) -> None:
    dat = mechanism("dat").cls(32).eval()
    file = export.to_onnx(dat, torch.randn(1, 32, 8, 8), tmp_path / "model.onnx")
    assert "GridSample" in operators(file.path)
