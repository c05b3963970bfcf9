"""Each runtime computes the numbers of the model, and is named where it is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import attngraft
from attngraft.attention import MHSA
from attngraft.bench import BACKENDS, Bench
from attngraft.bench import backends as module
from tests.bench.kit import GRAFTED, MICRO


@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "openvino"])
def test_a_backend_computes_the_models_numbers(backend: str, tmp_path: Path) -> None:
    if backend != "eager":
        pytest.importorskip(backend, reason="needs the [export] extra")
    network, x = module.deployed(attngraft.YOLO(GRAFTED).model), torch.rand(1, 3, 64, 64)
    given = BACKENDS[backend](network, x, tmp_path / "0.model")()
    first = given[0] if isinstance(given, tuple) else given
    with torch.no_grad():
        expected = network(x)
    torch.testing.assert_close(torch.as_tensor(first).clone(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++")
def test_the_compiled_backend_computes_the_modules_numbers(tmp_path: Path) -> None:
    network, x = MHSA(16).eval(), torch.rand(1, 16, 7, 5)
    given = BACKENDS["compiled"](network, x, tmp_path / "0.model")()
    with torch.no_grad():
        torch.testing.assert_close(given, network(x), atol=1e-5, rtol=1e-4)


def test_a_backend_that_is_not_here_is_said(found: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        assert set(found.absent["tensorrt"]) == {MICRO, GRAFTED}
        assert found.absent["tensorrt"][MICRO] == "TensorRT needs a CUDA device, and there is none here"
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    absent = attngraft.bench(MICRO, imgsz=64, rounds=1, backends=["onnxruntime"]).absent
    assert "pip install 'attngraft[export]'" in absent["onnxruntime"][MICRO]
