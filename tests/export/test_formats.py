"""Files are written whole, in their place, with what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attngraft import export
from attngraft._core.errors import OptionError, OutputError
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
