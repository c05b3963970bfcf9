"""Files are written whole, in their place, with what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attngraft import export
from attngraft._core.errors import OptionError, OutputError
from attngraft.attention import BRA, DAT
from tests.export.kit import FORMATS, write


@pytest.mark.parametrize("half", [False, True])
def test_openvino_stores_weights_in_the_type_asked_for(half: bool, tmp_path: Path) -> None:
    module, x = nn.Conv2d(16, 64, 3), torch.randn(1, 16, 5, 5)
    exported = write("openvino", module, tmp_path, x, half=half)
    weights = 64 * 16 * 9 * (2 if half else 4)
    assert weights <= exported.files[1].stat().st_size < weights * 1.2
    (found,) = export.parity(module, exported, [x]).outputs
    assert found.within
    assert (found.relative > 1e-5) == half


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_an_existing_file_is_replaced_only_when_asked(kind: str, tmp_path: Path) -> None:
    x = torch.randn(1, 2, 3, 3)
    first = write(kind, nn.Conv2d(2, 2, 1), tmp_path, x)
    before = first(x)
    with pytest.raises(OutputError, match=r"model.* is there already; pass overwrite=True"):
        write(kind, nn.Conv2d(2, 2, 1), tmp_path, x)
    assert np.array_equal(export.load(first.path)(x), before)
    second = write(kind, nn.Conv2d(2, 2, 1), tmp_path, x, overwrite=True)
    assert not np.array_equal(second(x), before)


def test_weights_beside_a_missing_file_are_not_replaced_either(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    with pytest.raises(OutputError, match=r"model\.bin is there already"):
        write("openvino", nn.ReLU(), tmp_path, torch.randn(1, 2))


def test_a_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="expected input"):
        write("onnx", nn.Conv2d(2, 2, 1), tmp_path, torch.randn(1, 3, 3, 3))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"model\.torchscript cannot be written.*choose another path"):
        write("torchscript", nn.ReLU(), tmp_path / "file", torch.zeros(1, 2))


def test_a_wrong_ending_is_said(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"onnx file ends in \.onnx, got .*model\.pt; use model\.onnx"):
        export.to_onnx(nn.ReLU(), torch.zeros(1), tmp_path / "model.pt")
    with pytest.raises(OptionError, match=r"got .*none\.onnx, which is not there"):
        export.load(tmp_path / "none.onnx")
    (tmp_path / "model.pt").touch()
    with pytest.raises(OptionError, match=r"end in \.onnx, \.xml, \.torchscript, got"):
        export.load(tmp_path / "model.pt")


def test_several_inputs_keep_their_order(tmp_path: Path) -> None:
    class Difference(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a - 2 * b

    pair = (torch.randn(2, 3), torch.randn(2, 3))
    for kind in FORMATS:
        exported = write(kind, Difference(), tmp_path / kind, pair, dynamic=True)
        assert export.parity(Difference(), exported, [pair]).within


def test_an_opset_that_is_too_old_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the [export] extra")
    with pytest.raises(OptionError, match=r"DAT cannot be written with ONNX opset 9 \(.*lowest that works is opset=11"):
        export.to_onnx(DAT(32).eval(), torch.randn(1, 32, 8, 8), tmp_path / "model.onnx", opset=9, dynamic=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_no_runtime_takes_is_no_export(tmp_path: Path) -> None:
    """PyTorch writes a Clip of integers at opset 11, which had none."""
    pytest.importorskip("onnx", reason="needs the [export] extra")
    with pytest.raises(OptionError, match=r"BRA cannot be .*unsupported type: tensor\(int64\).*opset=12"):
        export.to_onnx(BRA(64).eval(), torch.randn(1, 64, 12, 16), tmp_path / "model.onnx", opset=11, dynamic=True)


def test_what_no_opset_has_keeps_the_exporters_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft2(x).real

    pytest.importorskip("onnx", reason="needs the [export] extra")
    with pytest.raises(RuntimeError, match="aten::fft_fft2"):
        export.to_onnx(Spectrum(), torch.randn(1, 2, 4, 4), tmp_path / "model.onnx", opset=12)
    assert capfd.readouterr().out == "", "the exporter prints its whole graph"
