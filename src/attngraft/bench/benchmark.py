"""`bench`: build every detector, then time them in interleaved rounds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from attngraft._core.errors import AttngraftError, OptionError, first_line, suggest
from attngraft._core.progress import SILENT, Progress
from attngraft._core.sizes import round_up
from attngraft.attention import taken_kernels
from attngraft.bench.backends import BACKENDS, Call, deployed, device_of, installed
from attngraft.bench.comparison import Bench, Settings
from attngraft.measure import Measurement, Timing, environment, flops, latency, memory, parameters, weight_bytes
from attngraft.measure.environment import device_name
from attngraft.yolo import YOLO
from attngraft.yolo.devices import one_device
from attngraft.yolo.imgsz import largest_stride, sides
from attngraft.yolo.step import TrainingLoss


def bench(
    models: str | Iterable[str],
    *,
    imgsz: int | Sequence[int] = 640,
    batch: int = 1,
    backends: Iterable[str] | None = None,
    train: bool = False,
    rounds: int = 30,
    device: str | int = "cpu",
    progress: Progress = SILENT,
) -> Bench:
    """Measure detectors side by side.

    Times are taken in interleaved rounds in random order, so a busy machine slows all of them alike: compare ratios
    of one run, never milliseconds of two. Non-maximum suppression after a detector is not in them.

    Args:
        models: Recipes, YAMLs or checkpoints; ratios are against the first that can be measured.
        imgsz: Side of the images, or height and width; brought to the next multiples of the largest stride, as
            Ultralytics does.
        batch: Images at once.
        backends: Of `BACKENDS`; None takes PyTorch and every runtime that is installed. One that is not here, or cannot
            take a model, is noted, and the others are measured.
        train: Whether to measure a training step (forward, the loss of Ultralytics, backward) too.
        rounds: How often to time each.
        device: Where PyTorch runs them, by the word of Ultralytics; ONNX Runtime and OpenVINO run on the CPU.
        progress: Gets what is being done.

    Returns:
        The figures.

    Raises:
        OptionError: If there is no model, one is given twice, a backend is unknown, or the device is not here.

    Example:
        >>> found = bench("attngraft-micro.yaml", imgsz=64, rounds=2, backends=["eager"])
        >>> found.measurements[0].backend, found.measurements[0].parameters
        ('eager', 141568)
    """
    names, wanted = (
        [models] if isinstance(models, str) else list(models),
        list(dict.fromkeys(installed() if backends is None else backends)),
    )
    _check(names, wanted, train=train)
    asked, place = sides("bench", imgsz), one_device("bench", device)
    settings = Settings(asked, asked, batch, rounds, train, str(place))
    with _threads_kept():
        opened = {name: _open(name, place, progress) for name in names}
        step = max(map(largest_stride, opened.values()))
        height, width = (round_up(side, step) for side in asked)
        settings = replace(settings, imgsz=(height, width))
        return _bench([_Entry.of(name, model, settings) for name, model in opened.items()], wanted, settings, progress)


@dataclass(frozen=True)
class _Entry:
    """A detector that takes part: its name, the model that is trained, its input."""

    name: str
    model: Any
    x: torch.Tensor

    @classmethod
    def of(cls, name: str, model: Any, settings: Settings) -> _Entry:
        shape = settings.batch, model.yaml.get("channels", 3), *settings.imgsz
        return cls(name, model, torch.rand(shape, device=settings.device))

    def loss(self) -> TrainingLoss:
        """Return what a training step of a copy is made of."""
        batch, _, height, width = self.x.shape
        options = {"imgsz": max(height, width), "batch": batch}
        return TrainingLoss(deepcopy(self.model), batch, (height, width), options).to(self.x.device)


def _check(names: list[str], wanted: list[str], *, train: bool) -> None:
    if not names:
        raise OptionError("bench needs at least one model, got none; name recipes, YAMLs or checkpoints")
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"bench compares different models, and {name} is given twice; give it once")
    for backend in wanted:
        if backend not in BACKENDS:
            raise OptionError(f"bench knows no backend {backend!r}; {suggest(backend, BACKENDS)}")
    if not wanted:
        raise OptionError(f"bench needs at least one backend, got none; {suggest('', BACKENDS)}")
    if train and "eager" not in wanted:
        raise OptionError(f"bench measures training steps with eager, got backends={','.join(wanted)}; add it")


def _open(name: str, device: torch.device, progress: Progress) -> Any:
    progress.started(f"opening {name}")
    model: Any = YOLO(name).model
    return model.float().to(device)


def _bench(entries: list[_Entry], wanted: list[str], settings: Settings, progress: Progress) -> Bench:
    figures: dict[str, dict[str, Any]] = {}
    kernels: dict[str, dict[str, str]] = {}
    for entry in entries:
        progress.started(f"counting {entry.name}")
        with taken_kernels() as taken:
            figures[entry.name] = _figures(entry, train=settings.train)
        if taken:
            kernels[entry.name] = dict(taken)
    steps = _training(entries, settings, progress) if settings.train else {}
    measured: list[Measurement] = []
    absent: dict[str, dict[str, str]] = {}
    for backend in wanted:
        progress.started(f"timing on {backend}")
        timings, failed = _timed(backend, entries, settings.rounds)
        absent |= {backend: failed} if failed else {}
        device = device_name(device_of(backend, torch.device(settings.device))) if timings else ""
        for entry in entries:
            if entry.name in timings:
                own = figures[entry.name] | {"train_latency": steps.get(entry.name)}
                kept = own if backend == "eager" else {key: own[key] for key in ("parameters", "flops")}
                shapes = (tuple(entry.x.shape),)
                measured.append(Measurement(entry.name, backend, device, shapes, latency=timings[entry.name], **kept))
    return Bench(environment(settings.device), settings, tuple(measured), absent, kernels)


def _figures(entry: _Entry, *, train: bool) -> dict[str, Any]:
    """Return what does not depend on time."""
    network = deployed(entry.model).to(entry.x.device)
    found = {
        "parameters": parameters(entry.model),
        "weight_bytes": weight_bytes(network),
        "flops": flops(network, entry.x),
        "peak_bytes": memory.peak(network, entry.x),
    }
    if not train:
        return found
    loss = entry.loss()
    return {
        **found,
        "train_flops": flops(loss, entry.x, train=True),
        "train_peak_bytes": memory.peak(loss, entry.x, train=True),
    }


def _timed(backend: str, entries: list[_Entry], rounds: int) -> tuple[dict[str, Timing], dict[str, str]]:
    """Return the times of the detectors that a backend takes, and why it does not take the others."""
    calls: dict[str, Call] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for index, entry in enumerate(entries):
            try:
                network = deployed(entry.model).to(entry.x.device).eval()
                call = BACKENDS[backend](network, entry.x, Path(folder, f"{index}.model"))
                call()
            except Exception as error:  # a runtime that is not here, or cannot build, has errors of its own
                if backend == "eager":
                    raise
                failed[entry.name] = str(error) if isinstance(error, AttngraftError) else _clause(error)
            else:
                calls[entry.name] = call
        timings = latency.compare(calls, rounds=rounds) if calls else []
        return {timing.name: timing for timing in timings}, failed


def _clause(error: Exception) -> str:
    """Return the type of an error and the first sentence of its text."""
    return first_line(error).partition(". ")[0]


def _training(entries: list[_Entry], settings: Settings, progress: Progress) -> dict[str, Timing]:
    progress.started("timing training steps")
    calls: dict[str, Call] = {entry.name: entry.loss().step(entry.x) for entry in entries}
    return {timing.name: timing for timing in latency.compare(calls, rounds=settings.rounds, warmup=2)}


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Keep Ultralytics from changing how many threads PyTorch may use."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
