"""Writing a module to each format, the way Ultralytics exports a detector: traced in evaluation mode on an example.

A file is written beside its place and moved there when it is whole, so that a failed export leaves nothing behind.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attngraft._core import opsets
from attngraft._core.calls import Example, arguments, mode, tensors
from attngraft._core.errors import OptionError, OutputError, first_line
from attngraft._core.extras import extra_package
from attngraft._core.streams import silenced
from attngraft.export.exported import ONNX, OPENVINO, TORCHSCRIPT, Exported, Format, openvino

opsets.install()

OPSET = 18
FREE_AXES = {0: "batch", 2: "height", 3: "width"}
"""Axes of an input that a dynamic export leaves open."""


def to_onnx(
    module: nn.Module,
    example: Example,
    path: str | Path,
    *,
    dynamic: bool = False,
    opset: int = OPSET,
    overwrite: bool = False,
) -> Exported:
    """Export to ONNX with the tracing exporter.

    Args:
        module: What to export; left as it was.
        example: An input to trace it with.
        path: A file that ends in ``.onnx``; its folder is made when missing.
        dynamic: Whether batch, height and width of the inputs stay open.
        opset: Version of the operator set; `attngraft._core.opsets` says what is written for those below 16.
        overwrite: Whether a file that is there may be replaced.

    Returns:
        The file, ready to be called.

    Raises:
        MissingExtraError: If the package onnx is not installed.
        OptionError: If ``path`` ends otherwise, or the module needs a newer ``opset``; names the lowest that works.
        OutputError: If the file is there and may not be replaced, or cannot be written.
    """
    extra_package("onnx", "export")  # PyTorch would raise an error of its own, with the graph half traced
    inputs = arguments(example)
    names = _numbered("x", len(inputs))
    axes = {
        name: {axis: f"{name}_{word}" for axis, word in FREE_AXES.items() if axis < x.dim()}
        for name, x in zip(names, inputs, strict=True)
    }

    def save(file: Path, opset: int = opset) -> None:
        outputs = tensors(module(*inputs))
        with silenced():  # of what fails it prints the whole graph
            torch.onnx.export(
                module,
                inputs,
                str(file),
                input_names=names,
                output_names=_numbered("y", len(outputs)),
                opset_version=opset,
                dynamic_axes=axes if dynamic else None,
                dynamo=False,
            )

    target = Exported(ONNX, Path(path), dynamic=dynamic)
    with _tracing(module):
        if opset >= OPSET:
            return _write(target, save, overwrite)
        _check_place(ONNX, target.path, overwrite)
        _require_opset(type(module).__name__, save, opset)
        return _write(target, save, overwrite)


def _require_opset(who: str, save: Callable[[Path, int], None], asked: int) -> None:
    """Raise where a module cannot be written with an old opset and can with a newer one.

    Raises:
        OptionError: If so; names the lowest that works.
    """
    reason = _refused(save, asked)
    if not reason:
        return
    lowest = next((opset for opset in range(max(asked + 1, opsets.OLDEST), OPSET + 1) if not _refused(save, opset)), 0)
    if lowest:
        raise OptionError(
            f"{who} cannot be written with ONNX opset {asked} ({reason}); the lowest that works is opset={lowest}"
        )


def _refused(save: Callable[[Path, int], None], opset: int) -> str:
    """Write a file with an opset to throw away, and say why that cannot be done, or why no runtime takes it."""
    checker = extra_package("onnx", "export").checker
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        try:
            save(file, opset)
            checker.check_model(str(file), full_check=True)
        except Exception as error:  # noqa: BLE001 (the exporter and the checker have errors of their own)
            return first_line(error).partition(". ")[0]
    return ""


def newest_opset(asked: int) -> int:
    """Return the opset that is asked for, or the newest below it that PyTorch's tracing exporter can write."""
    module, x = nn.Identity().eval(), torch.zeros(1, 1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), silenced():
        warnings.simplefilter("ignore")
        for opset in range(min(asked, OPSET + 30), OPSET, -1):
            with suppress(Exception):  # the exporter has errors of its own
                torch.onnx.export(module, (x,), str(Path(folder, "model.onnx")), opset_version=opset, dynamo=False)
                return opset
    return OPSET


def to_openvino(
    module: nn.Module,
    example: Example,
    path: str | Path,
    *,
    dynamic: bool = False,
    half: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Export to OpenVINO.

    Args:
        module: What to export; left as it was.
        example: An input to trace it with.
        path: A file that ends in ``.xml``; the weights go beside it in ``.bin``.
        dynamic: Whether every axis of the inputs stays open.
        half: Whether to store weights in float16.
        overwrite: Whether files that are there may be replaced.

    Returns:
        The file, ready to be called.

    Raises:
        MissingExtraError: If OpenVINO is not installed.
        OptionError: If ``path`` ends otherwise.
        OutputError: If a file is there and may not be replaced, or cannot be written.
    """
    toolkit = openvino()
    inputs = arguments(example)

    def save(file: Path) -> None:
        shapes = None if dynamic else [list(x.shape) for x in inputs]
        model = toolkit.convert_model(_trace(module, inputs), input=shapes, example_input=inputs)
        toolkit.save_model(model, str(file), compress_to_fp16=half)

    with _tracing(module):
        return _write(Exported(OPENVINO, Path(path), dynamic=dynamic, half=half), save, overwrite)


def to_torchscript(module: nn.Module, example: Example, path: str | Path, *, overwrite: bool = False) -> Exported:
    """Export to TorchScript by tracing; whether other sizes work depends on the module alone.

    Args:
        module: What to export; left as it was.
        example: An input to trace it with.
        path: A file that ends in ``.torchscript``.
        overwrite: Whether a file that is there may be replaced.

    Returns:
        The file, ready to be called.

    Raises:
        OptionError: If ``path`` ends otherwise.
        OutputError: If the file is there and may not be replaced, or cannot be written.
    """

    def save(file: Path) -> None:
        torch.jit.save(_trace(module, arguments(example)), str(file))

    with _tracing(module):
        return _write(Exported(TORCHSCRIPT, Path(path), dynamic=True), save, overwrite)


@contextmanager
def _tracing(module: nn.Module) -> Iterator[None]:
    """Trace as an inference, without the tracer's guesses at what may go wrong: `parity` finds out."""
    with mode(module, train=False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _trace(module: nn.Module, inputs: tuple[Any, ...]) -> torch.jit.ScriptModule:
    module(*inputs)  # a module checks its input outside the tracer only
    traced: torch.jit.ScriptModule = torch.jit.trace(  # type: ignore[no-untyped-call]
        module, inputs, strict=False, check_trace=False
    )
    return traced


def _numbered(letter: str, count: int) -> list[str]:
    """Return the names of some tensors: ``x`` alone, else ``x0``, ``x1``."""
    return [letter] if count == 1 else [f"{letter}{i}" for i in range(count)]


def _write(target: Exported, save: Callable[[Path], None], overwrite: bool) -> Exported:
    _check_place(target.format, target.path, overwrite)
    try:
        target.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.path.parent, prefix=".attngraft-") as folder:
            save(Path(folder, target.path.name))
            for file in target.files:
                os.replace(Path(folder, file.name), file)
    except OSError as error:
        raise OutputError(f"{target.path} cannot be written: {error}; choose another path") from error
    return target


def _check_place(kind: Format, path: Path, overwrite: bool) -> None:
    if path.suffix != kind.suffixes[0]:
        raise OptionError(
            f"a {kind.name} file ends in {kind.suffixes[0]}, got {path}; use {path.stem}{kind.suffixes[0]}"
        )
    for file in kind.files(path):
        if file.exists() and not overwrite:
            raise OutputError(f"{file} is there already; pass overwrite=True or another path")
