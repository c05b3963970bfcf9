"""Checks of what happens to a module after it was written: copied, saved, loaded, validated, exported."""

from __future__ import annotations

import copy
import linecache
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import attngraft
from attngraft import export
from attngraft._core.calls import backward, mode
from attngraft._core.plugins import is_remembered
from attngraft._core.streams import silenced
from attngraft.doctor.comparing import CLOSE, distance, problems
from attngraft.doctor.findings import Outcome, broken, check, expected, failed, passed, warned
from attngraft.doctor.mechanism.subject import SAME, STATE_REMEDY, Subject
from attngraft.export import Exported

PARITY_SIZES = ((10, 12), (15, 7))
RELOAD = """
import sys, torch
saved = torch.load(sys.argv[1], weights_only=False)
with torch.no_grad():
    torch.save(saved["module"].eval()(saved["x"]), sys.argv[2])
"""


@check(
    remedy="keep nothing of a forward on self; compute it again, or keep it as a buffer made in __init__",
    needs=SAME,
)
def deepcopy(subject: Subject) -> Outcome:
    """A copy made after training steps, as EMA makes one, is whole."""
    module, x = subject.perturbed().train(), subject.map(7, 6)
    module(x)
    backward(module(x.requires_grad_()))
    with expected():
        twin = copy.deepcopy(module).eval()
    if distance(twin(x), module.eval()(x)) > CLOSE:
        return failed("the copy gives other numbers")
    return passed("after a training step")


@check(remedy="keep no tensor of a forward on self, by size or otherwise: one made in inference mode cannot be trained")
def training_after_validation(subject: Subject) -> Outcome:
    """Training goes on after a validation at the same and at another size."""
    module = subject.perturbed()
    for height, width in ((8, 8), (6, 9)):
        with torch.inference_mode(), mode(module, train=False):
            module(subject.map(height, width))

    def trial(height: int, width: int) -> None:
        for _ in range(2):
            backward(module.train()(subject.map(height, width).requires_grad_().clone()))

    wrong = problems({f"{height}x{width}": partial(trial, height, width) for height, width in ((8, 8), (6, 9))})
    return broken(wrong) if wrong else passed("8x8 and 6x9")


@check(
    remedy="define the class at the top level of an importable file, and keep no lambda or open file on self",
    needs=SAME,
)
def reload(subject: Subject) -> Outcome:
    """A new process loads it whole and gets the same numbers, and a strict state dict fits a fresh one."""
    module, x = subject.perturbed().eval(), subject.map(7, 6)
    twin = subject.fresh().eval()
    usual = module(x).detach()
    with expected(STATE_REMEDY):
        twin.load_state_dict(module.state_dict())
    if distance(twin(x), usual) > CLOSE:
        return failed("a fresh module with its state dict gives other numbers", STATE_REMEDY)
    with tempfile.TemporaryDirectory() as folder:
        saved, result = Path(folder, "module.pt"), Path(folder, "result.pt")
        with expected():
            torch.save({"module": module, "x": x}, saved)
        folder_needed = None if is_remembered(subject.cls) else subject.folder
        ran = new_process(RELOAD, saved, result, folder=folder_needed)
        if ran.returncode:
            return failed(f"a new process fails: {last_line(ran.stderr)}")
        off = distance(torch.load(result), usual)
    if off > CLOSE:
        return failed(f"a new process gets numbers {off:.1e} off", "keep all state in parameters and buffers")
    if folder_needed is not None and str(folder_needed) not in _python_path():
        return warned(
            f"a new process loads it only with {folder_needed} on its path",
            "put @attngraft.register above the class, so that checkpoints remember its file, or export PYTHONPATH",
        )
    return passed("a new process gets the same numbers")


@check(remedy="size by x.shape only, no Python int of it kept on self", needs=SAME)
def torchscript(subject: Subject) -> Outcome:
    """TorchScript gives the module's numbers at the exported and at another size."""
    return _parity(subject, "model.torchscript", export.to_torchscript)


@check(
    remedy="size by x.shape only, no Python int of it kept on self, no adaptive pooling, opset 18 operators",
    needs=SAME,
)
def onnx(subject: Subject) -> Outcome:
    """ONNX gives the module's numbers at the exported and at another size."""
    return _parity(subject, "model.onnx", lambda m, x, path: export.to_onnx(m, x, path, dynamic=True))


@check(remedy="size by x.shape only, no Python int of it kept on self, no adaptive pooling", needs=SAME)
def openvino(subject: Subject) -> Outcome:
    """OpenVINO gives the module's numbers at the exported and at another size."""
    return _parity(subject, "model.xml", lambda m, x, path: export.to_openvino(m, x, path, dynamic=True))


def new_process(script: str, *arguments: Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script in a new interpreter that finds us, and a user's file in its folder; it asks no network."""
    ours = Path(attngraft.__file__).parents[1]
    path = [str(ours), *([str(folder)] if folder else []), *_python_path()]
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0"},
        cwd=arguments[0].parent,
        capture_output=True,
        text=True,
        check=False,
    )


def last_line(text: str) -> str:
    """Return the last line that a process said, which of a traceback is the error."""
    return (text.strip().splitlines() or ["no message"])[-1]


def _python_path() -> list[str]:
    return [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _parity(subject: Subject, name: str, write: Callable[[nn.Module, Tensor, Path], Exported]) -> Outcome:
    module = subject.perturbed().eval()
    traced, other = (subject.map(*size, batch) for batch, size in enumerate(PARITY_SIZES, start=1))
    with expected(), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, silenced():
        deviation = export.parity(module, write(module, traced, Path(folder, name)), [traced, other])
    return passed(str(deviation)) if deviation.within else failed(str(deviation), _frozen(module, traced))


def _frozen(module: nn.Module, x: Tensor) -> str:
    """Name the line whose `if` or number a trace keeps as it was; empty where PyTorch names none."""
    with warnings.catch_warnings(record=True) as heard, torch.no_grad(), silenced():
        warnings.simplefilter("always")
        torch.jit.trace(module, x, check_trace=False)  # type: ignore[no-untyped-call]
    for one in heard:
        if one.category.__name__ == "TracerWarning" and "Converting a tensor to" in str(one.message):
            line = linecache.getline(one.filename, one.lineno).strip()
            return (
                f"look at {Path(one.filename).name}, line {one.lineno}: {line} (an export keeps for every image what "
                "was decided for one; compute it with tensors, as by torch.where)"
            )
    return ""
