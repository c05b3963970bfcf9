"""Exported files: opened, run and put aside."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from attngraft import export
from attngraft._core.errors import MissingExtraError
from attngraft.export.exported import _without
from tests.export.kit import SUFFIX, write


def test_files_put_aside_never_replace_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "model.bin.rejected").write_text("the user's")
    for expected in ("model.xml.rejected-2", "model.xml.rejected-3"):
        exported = write("openvino", nn.Conv2d(2, 2, 1), tmp_path, torch.randn(1, 2, 3, 3))
        kept = exported.put_aside()
        assert kept.name == expected
        assert kept.with_name(expected.replace("xml", "bin")).is_file()
    assert (tmp_path / "model.bin.rejected").read_text() == "the user's"


@pytest.mark.parametrize(("package", "kind"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_missing_runtime_names_the_extra(
    package: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / f"model{SUFFIX[kind]}").touch()
    with pytest.raises(MissingExtraError, match=rf"needs {package}.*pip install 'attngraft\[export\]'"):
        export.load(tmp_path / f"model{SUFFIX[kind]}")(torch.zeros(1))


def test_a_package_can_be_kept_out_of_an_import() -> None:
    with _without("this"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("this")
    assert "this" not in sys.modules
    with _without("sys"):
        importlib.import_module("sys")  # what is in already stays


def test_files_are_opened_with_the_threads_of_pytorch(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the [export] extra")
    exported = write("onnx", nn.Conv2d(2, 2, 1), tmp_path, torch.randn(1, 2, 3, 3))
    seen = []
    original = runtime.InferenceSession

    def spy(path: os.PathLike[str], options: object, **rest: object) -> object:
        seen.append(options.intra_op_num_threads)
        return original(path, options, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "InferenceSession", spy)
        exported(torch.randn(1, 2, 3, 3))
        exported(torch.randn(1, 2, 3, 3))
    assert seen == [torch.get_num_threads()]
