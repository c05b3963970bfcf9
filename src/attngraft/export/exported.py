"""A file that was exported, and how each runtime runs it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attngraft._core.calls import tensors
from attngraft._core.errors import OptionError
from attngraft._core.extras import extra_package
from attngraft._core.files import numbered

Array: TypeAlias = NDArray[Any]
Runner: TypeAlias = Callable[[tuple[Array, ...]], list[Array]]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: What it is called.
        runtime: What runs it.
        suffixes: Endings of the files that belong together; the first is the one to open.
        open: Return a function that runs the file.
    """

    name: str
    runtime: str
    suffixes: tuple[str, ...]
    open: Callable[[Path], Runner]

    def files(self, path: Path) -> tuple[Path, ...]:
        """Return the files that belong to ``path``, itself first."""
        return tuple(path.with_suffix(suffix) for suffix in self.suffixes)


@dataclass(frozen=True)
class Exported:
    """An exported file; call it as the module it came from.

    It is opened at the first call, with as many threads as PyTorch uses then.

    Attributes:
        format: What kind of file it is.
        path: The file.
        dynamic: Whether it was exported for any batch, height and width.
        half: Whether it stores its weights in float16.
    """

    format: Format
    path: Path
    dynamic: bool = False
    half: bool = False

    @cached_property
    def _run(self) -> Runner:
        return self.format.open(self.path)

    def __call__(self, *inputs: Tensor | Array) -> tuple[Array, ...]:
        """Return the outputs, flat, as the module's tensors come depth first."""
        return tuple(self._run(tuple(_array(x) for x in inputs)))

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that belongs to it."""
        return self.format.files(self.path)

    def put_aside(self) -> Path:
        """Rename its files as `put_aside` does, and return the main one's new path."""
        self.__dict__.pop("_run", None)  # some systems do not rename a file that is open
        return put_aside(self.files)[0]


def put_aside(paths: Sequence[Path], folder: Path | None = None) -> list[Path]:
    """Rename files or folders that belong together to ``*.rejected``, or ``*.rejected-2``, ... where one is there.

    Args:
        paths: What failed.
        folder: Where to keep it; None takes the folder that it is in.

    Returns:
        The new paths, all of one number.
    """
    wanted = [(folder or path.parent) / f"{path.name}.rejected" for path in paths]
    numbers = zip(*map(numbered, wanted), strict=True)
    kept = next(list(names) for names in numbers if not any(name.exists() for name in names))
    for path, name in zip(paths, kept, strict=True):
        os.replace(path, name)
    return kept


def load(path: str | Path) -> Exported:
    """Open a file that was exported before, by us or by another tool.

    Args:
        path: A ``.onnx``, ``.xml`` (OpenVINO) or ``.torchscript`` file.

    Raises:
        OptionError: If there is no such file, or its ending is none of these.
    """
    path = Path(path)
    if not path.is_file():
        raise OptionError(f"load needs an exported file, got {path}, which is not there; check the path")
    for kind in FORMATS:
        if path.suffix == kind.suffixes[0]:
            return Exported(kind, path)
    endings = ", ".join(kind.suffixes[0] for kind in FORMATS)
    raise OptionError(f"load reads files that end in {endings}, got {path}; export it to one of them")


def openvino() -> ModuleType:
    """Import OpenVINO, which otherwise reports each import and conversion to its vendor unless it is told not to.

    Raises:
        MissingExtraError: If it is not installed.
    """
    with without_telemetry():
        return extra_package("openvino", "export")


def without_telemetry() -> AbstractContextManager[None]:
    """Let imports inside find no OpenVINO telemetry."""
    return _without("openvino_telemetry")


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Let imports inside find that a package is not there, unless it already came in."""
    absent = package not in sys.modules
    if absent:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules[package]


def _array(x: Tensor | Array) -> Array:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _open_onnx(path: Path) -> Runner:
    runtime = extra_package("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what it logs of a failed run comes with the exception too
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(inputs: tuple[Array, ...]) -> list[Array]:
        outputs: list[Array] = session.run(None, dict(zip(names, inputs, strict=True)))
        return outputs

    return run


def _open_openvino(path: Path) -> Runner:
    runtime = openvino()
    # Left to itself it computes in bfloat16 on processors that can.
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = runtime.Core().compile_model(str(path), "CPU", settings)

    def run(inputs: tuple[Array, ...]) -> list[Array]:
        return list(compiled(list(inputs)).to_tuple())

    return run


def _open_torchscript(path: Path) -> Runner:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated")  # Ultralytics writes it all the same
        script = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]

    def run(inputs: tuple[Array, ...]) -> list[Array]:
        with torch.no_grad():
            return [y.numpy() for y in tensors(script(*map(torch.from_numpy, inputs)))]

    return run


ONNX = Format("onnx", "onnxruntime", (".onnx",), _open_onnx)
OPENVINO = Format("openvino", "openvino", (".xml", ".bin"), _open_openvino)
TORCHSCRIPT = Format("torchscript", "torchscript", (".torchscript",), _open_torchscript)
FORMATS = (ONNX, OPENVINO, TORCHSCRIPT)
