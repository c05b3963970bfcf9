"""Checks of what a detector costs, and of where it goes: other formats, other processes, other GPUs."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch

from attngraft._core.extras import extra_package
from attngraft._core.registry import mechanism_of
from attngraft._core.streams import silenced
from attngraft.data import beacons
from attngraft.doctor.comparing import CLOSE, distance
from attngraft.doctor.detector.subject import SAME, DetectorSubject, grafted, predict
from attngraft.doctor.findings import Outcome, check, expected, failed, passed, skipped, warned
from attngraft.doctor.mechanism.resources import GIB, flops_at, free_for_training, growth, pairs_bytes, sliced_in_files
from attngraft.doctor.mechanism.survival import last_line, new_process
from attngraft.measure import memory, weight_bytes
from attngraft.yolo import checkpoint, export, host
from attngraft.yolo.grafting import stripped
from attngraft.yolo.texts import reads_texts

MEMORY_SIDES = (4, 6, 8)
"""In strides; a classifier's last map is smaller."""
CLASSIFIER_SIDES = (2, 3, 4)
COPIES_OF_WEIGHTS = 5
"""Weights, their gradients, two moments of the optimizer, the averaged copy."""
OURS = "attngraft."
DEAR = 1.0
"""Part of the base's FLOPs from which grafts are called dear."""

RELOAD = """
import sys, torch
from ultralytics import YOLO
assert "attngraft" not in sys.modules
model = YOLO(sys.argv[1]).model.float().eval()
with torch.no_grad():
    y = model(torch.load(sys.argv[2]))
while isinstance(y, (tuple, list)):
    y = y[0]
torch.save(y, sys.argv[3])
"""
WORKER = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
TINY_TRAINING = {
    "epochs": 1, "imgsz": 64, "batch": 4, "device": "cpu", "workers": 0, "plots": False, "val": False, "amp": False,
    "optimizer": "SGD", "lr0": 0.1, "warmup_epochs": 0, "verbose": False, "name": "worker",
}  # fmt: skip


@check(remedy="place it on a smaller map (P5), or take a mechanism whose cost is linear: attngraft list")
def true_flops(subject: DetectorSubject) -> Outcome:
    """What the grafts add is counted as dispatched, and said where the profiler of Ultralytics misses it."""
    model = subject.fresh()
    whole, base = flops_at(model, subject.side), flops_at(stripped(model), subject.side)
    alone = host.profiled_flops(model, subject.side)
    detail = f"{whole / 1e9:.2f} GFLOPs at {subject.side}, {(whole - base) / 1e9:.2f} of them in what follows layers"
    if abs(alone - whole) > 0.05 * whole:
        detail += f"; the profiler of Ultralytics would print {alone / 1e9:.2f}, and with attngraft prints the first"
    return warned(detail) if whole - base > DEAR * base else passed(detail)


@check(remedy="train with a smaller batch= or imgsz=, place it on a smaller map (P5), or take one of linear memory")
def memory_at_largest(subject: DetectorSubject) -> Outcome:
    """A training step at the largest size fits into the memory that is free."""
    model = subject.fresh().train()
    sides = [n * subject.stride for n in (CLASSIFIER_SIDES if subject.task == "classify" else MEMORY_SIDES)]
    peaks = {side**2: memory.peak(model, subject.images(side, side, 1), train=True) for side in sides}
    bytes_at, quadratic = growth(peaks)
    fixed, one = COPIES_OF_WEIGHTS * weight_bytes(model), bytes_at(subject.side**2)
    need = fixed + subject.batch * one
    free, words = free_for_training()
    detail = f"{need / GIB:.1f} GiB at {subject.side}x{subject.side}, batch {subject.batch}"
    detail += ", growing with the square of the pixels" if quadratic else ""
    detail += f"; {words}"
    if need <= free:
        return passed(detail)
    return failed(f"{detail}, enough for batch {max(0, int((free - fixed) / one))}")


@check(remedy="deploy it on a smaller map (P5) or at a smaller size: other runtimes do not fuse this attention")
def memory_of_exports(subject: DetectorSubject) -> Outcome:
    """Runtimes that materialize the N x N attention matrix have the memory for it at the largest size."""
    found = []
    for path, shape in subject.shapes().items():
        part = subject.mechanisms[path]
        cells = (shape[2] * subject.side // subject.small) * (shape[3] * subject.side // subject.small)
        if need := _pairs(part, shape[1], cells):
            name = mechanism_of(type(part)).name
            sliced = sliced_in_files(copy.deepcopy(part).float(), shape[1])
            found.append((need, sliced, f"{name} at {path.removeprefix('model.')}, {cells:,} cells"))
    if not found:
        return passed("no mechanism has an N x N attention matrix")
    # What every file holds comes first, where it is worth a word; what files of accelerators hold may be larger.
    largest, sliced, where = max(found, key=lambda one: (one[0] > GIB and not one[1], one[0]))
    free = memory.free()
    detail = f"{largest / GIB:.2g} GiB per image at {subject.side}: {where}"
    if sliced:
        detail = f"in a file that is traced on an accelerator (device=0) {detail}; one traced on the CPU holds slices"
        return warned(detail) if largest > GIB else passed(detail)
    if largest > free / 2:
        return failed(f"{detail}; {free / GIB:.1f} GiB are free, and runtimes hold it about twice")
    return warned(detail) if largest > GIB else passed(detail)


def _pairs(part: Any, channels: int, cells: int) -> float:
    """Return the bytes of a mechanism's N x N attention matrix: by the record of ours, by measuring another."""
    record = mechanism_of(type(part))
    if record.cls.__module__.startswith(OURS):
        related = record.family == "global self-attention"
        return 4.0 * getattr(part, "heads", 1) * cells**2 if related else 0.0
    bytes_at = pairs_bytes(copy.deepcopy(part).float(), channels)
    return bytes_at(cells) if bytes_at else 0.0


@check(remedy="attngraft doctor FILE.py:CLASS shows which operation; size by x.shape only", needs=SAME)
def torchscript(subject: DetectorSubject) -> Outcome:
    """A TorchScript file of Ultralytics gives the model's boxes and scores."""
    return _exported(subject, "torchscript", dynamic=False)


@check(
    remedy="size by x.shape only, no Python int of it kept on self, no adaptive pooling, opset 18 operators",
    needs=SAME,
)
def onnx(subject: DetectorSubject) -> Outcome:
    """A dynamic ONNX file of Ultralytics gives the model's boxes and scores, at other sizes too."""
    extra_package("onnxruntime", "export")
    return _exported(subject, "onnx", dynamic=True, simplify=False)


@check(remedy="size by x.shape only, no Python int of it kept on self, no adaptive pooling", needs=SAME)
def openvino(subject: DetectorSubject) -> Outcome:
    """A dynamic OpenVINO file of Ultralytics gives the model's boxes and scores, at other sizes too."""
    return _exported(subject, "openvino", dynamic=True)


@check(remedy="give the mechanism's file with --plugin, or install it as a package", needs=SAME)
def reload(subject: DetectorSubject) -> Outcome:
    """A new process that never imported attngraft loads the checkpoint with stock Ultralytics, and gets its numbers."""
    model, x = subject.perturbed().half().float(), subject.images(width=2 * subject.stride)
    with tempfile.TemporaryDirectory() as folder:
        saved, given, result = (Path(folder, name) for name in ("model.pt", "x.pt", "y.pt"))
        with expected("keep no lambda, open file or local class on self"):
            checkpoint.save(model, saved, arguments={"task": subject.task, "model": subject.recipe})
        torch.save(x, given)
        ran = new_process(RELOAD, saved, given, result)
        if ran.returncode:
            return failed(f"a new process fails: {last_line(ran.stderr)}")
        off = distance(torch.load(result), predict(model, x))
    return (
        passed("stock Ultralytics gets the same numbers") if off <= CLOSE else failed(f"its numbers are {off:.1e} off")
    )


@check(remedy="give the mechanism's file with --plugin, or install it as a package")
def gpu_workers(subject: DetectorSubject) -> Outcome:
    """A worker process of multi-GPU training, from the script that Ultralytics writes for it, trains the grafts."""
    if subject.task != "detect":
        return skipped(f"looked at for detectors, and this is for the task {subject.task}")
    if reads_texts(subject.opened.model):
        return skipped("its trainer encodes the names of classes, with a network that Ultralytics downloads")
    extra_package("cloudpickle", "dev")  # Ultralytics would install it
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = beacons(folder / "beacons", train=8, val=2)
        opened = subject.opened
        options = {**TINY_TRAINING, "data": str(data), "project": str(folder)}
        trainer = host.trainer(opened, options)
        before = {name: p.detach().clone() for name, p in grafted(trainer.model, subject.mechanisms).items()}
        with host.worker_script(trainer) as script:
            ran = new_process(WORKER, script)
        if ran.returncode:
            return failed(f"the worker fails: {last_line(ran.stderr)}")
        last = next(folder.glob("worker*/weights/last.pt"))
        written = torch.load(last, weights_only=False)
        after = dict((written["ema"] or written["model"]).float().named_parameters())
    if set(before) - set(after):
        return failed(f"its checkpoint lacks {min(set(before) - set(after))}")
    if before and all(torch.equal(before[key].half(), after[key].half()) for key in before):
        return failed("no grafted parameter moved")
    return passed(f"one epoch, {len(before)} grafted tensors in its checkpoint")


@check(remedy="fix the data file: attngraft also stops a training run whose labels have unknown classes")
def data(subject: DetectorSubject) -> Outcome:
    """The data file is complete."""
    with expected():
        found = host.read_data(str(subject.data))
    return passed(f"{found['nc']} classes: {', '.join(map(str, list(found['names'].values())[:5]))}")


def _exported(subject: DetectorSubject, kind: str, *, dynamic: bool, **more: Any) -> Outcome:
    with expected(), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, silenced():
        opened = copy.copy(subject.opened)
        opened.model = subject.perturbed()
        opened.model.pt_path = str(Path(folder, "model.pt"))
        options = {"imgsz": subject.small, "dynamic": dynamic, "data": subject.data, **more}
        record = export(opened, format=kind, images=1, check=False, **options)
    if record.deviation is None:
        return skipped(record.reason)
    return passed(str(record.deviation)) if record.deviation.within else failed(str(record.deviation))
