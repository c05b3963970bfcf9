"""What runs a detector: PyTorch as written, compiled, or another runtime on a file made for the occasion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from attngraft import export
from attngraft._core.calls import in_place
from attngraft._core.errors import OptionError
from attngraft._core.extras import extra_package
from attngraft.yolo.deviations import reference

Call: TypeAlias = Callable[[], object]


def eager(network: nn.Module, x: Tensor, _: Path) -> Call:
    """Run the fused model with PyTorch, as written."""

    def call() -> object:
        with torch.inference_mode():
            return network(x)

    return call


def compiled(network: nn.Module, x: Tensor, _: Path) -> Call:
    """Run it through `torch.compile`."""
    return eager(torch.compile(network), x, _)  # type: ignore[arg-type]


def onnxruntime(network: nn.Module, x: Tensor, file: Path) -> Call:
    """Run an ONNX file of it."""
    extra_package("onnxruntime", "export")
    exported = export.to_onnx(network.cpu(), x.cpu(), file.with_suffix(".onnx"))
    given = x.cpu().numpy()
    return lambda: exported(given)


def openvino(network: nn.Module, x: Tensor, file: Path) -> Call:
    """Run an OpenVINO file of it, in full precision."""
    exported = export.to_openvino(network.cpu(), x.cpu(), file.with_suffix(".xml"))
    given = x.cpu().numpy()
    return lambda: exported(given)


def tensorrt(network: nn.Module, x: Tensor, file: Path) -> Call:
    """Run a TensorRT engine, built from an ONNX file by ONNX Runtime's provider for it."""
    if not torch.cuda.is_available():
        raise OptionError("TensorRT needs a CUDA device, and there is none here")
    runtime = extra_package("onnxruntime", "export")
    if "TensorrtExecutionProvider" not in runtime.get_available_providers():
        raise OptionError("this ONNX Runtime has no TensorRT provider; run: pip install onnxruntime-gpu tensorrt")
    path, index = file.with_suffix(".onnx"), device_of("tensorrt", x.device).index or 0
    export.to_onnx(network.cpu(), x.cpu(), path)
    session = runtime.InferenceSession(path, providers=[("TensorrtExecutionProvider", {"device_id": index})])
    given = {session.get_inputs()[0].name: x.cpu().numpy()}
    return lambda: session.run(None, given)


BACKENDS: Mapping[str, Callable[[nn.Module, Tensor, Path], Call]] = {
    backend.__name__: backend for backend in (eager, compiled, onnxruntime, openvino, tensorrt)
}

RUNTIMES = {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("openvino",)}
"""Packages that a backend needs."""

ON_CPU = ("onnxruntime", "openvino")
"""Backends that run on the processor, wherever PyTorch runs."""


def installed() -> list[str]:
    """List the backends that run here without a compiler: PyTorch, and every runtime that is installed."""
    found = [name for name, packages in RUNTIMES.items() if all(map(find_spec, packages))]
    if torch.cuda.is_available() and "onnxruntime" in found:
        providers = extra_package("onnxruntime", "export").get_available_providers()
        found += ["tensorrt"] if "TensorrtExecutionProvider" in providers else []
    return ["eager", *found]


def device_of(backend: str, device: torch.device) -> torch.device:
    """Return where a backend runs when PyTorch runs on a device."""
    if backend in ON_CPU:
        return torch.device("cpu")
    return torch.device("cuda:0") if backend == "tensorrt" and device.type != "cuda" else device


def deployed(network: Any) -> nn.Module:
    """Return a model as it is deployed: fused, and giving what an exported file gives."""
    return in_place(reference(network), wanted=True)
