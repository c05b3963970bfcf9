"""`bench`: build every detector, then time them in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attngraft._core.errors import AttngraftError, OptionError, first_line, suggest
from attngraft.bench.backends import BACKENDS, Call, deployed
from attngraft.bench.report import Bench, Settings
from attngraft.measure import Measurement, Timing, environment, flops, latency, memory, parameters, weight_bytes
from attngraft.yolo import YOLO
from attngraft.yolo.training import TrainingLoss


def bench(
    models: str | Iterable[str],
    *,
    imgsz: int = 640,
    batch: int = 1,
    backends: Iterable[str] = ("eager",),
    train: bool = False,
    rounds: int = 30,
    device: str = "cpu",
    started: Callable[[str], object] = lambda what: None,
) -> Bench:
    """Measure detectors side by side.

    Times are taken in interleaved rounds in random order, so a busy machine slows all of them alike: compare ratios
    of one run, never milliseconds of two. The search for duplicates after a detector is not in them.

    Args:
        models: Recipes, YAMLs or checkpoints; ratios are against the first.
        imgsz: Side of the pictures.
        batch: Pictures at once.
        backends: Of `BACKENDS`; one that is not here is noted, and the others are measured.
        train: Whether to measure a training step (forward, the host's loss, backward) too.
        rounds: How often to time each.
        device: Where PyTorch runs them.
        started: Called with what is being done.

    Returns:
        The figures.

    Raises:
        OptionError: If there is no model, one is given twice, or a backend is unknown.

    Example:
        >>> found = bench("attngraft-micro.yaml", imgsz=64, rounds=2)
        >>> found.measurements[0].backend, found.measurements[0].parameters
        ('eager', 141568)
    """
    names, wanted = [models] if isinstance(models, str) else list(models), list(backends)
    _check(names, wanted)
    settings = Settings(imgsz, batch, rounds, train, device)
    with _threads_kept():
        return _bench([_open(name, settings, started) for name in names], wanted, settings, started)


@dataclass(frozen=True)
class _Entry:
    """A detector that takes part: its name, the model that is trained, its input."""

    name: str
    model: Any
    x: torch.Tensor

    def loss(self) -> TrainingLoss:
        """Return what a training step of a copy is made of."""
        batch, _, height, width = self.x.shape
        options = {"imgsz": max(height, width), "batch": batch}
        return TrainingLoss(deepcopy(self.model), batch, (height, width), options).to(self.x.device)


def _check(names: list[str], wanted: list[str]) -> None:
    if not names:
        raise OptionError("bench needs at least one model, got none; name recipes, YAMLs or checkpoints")
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"bench compares different models, and {name} is given twice; give it once")
    for backend in wanted:
        if backend not in BACKENDS:
            raise OptionError(f"bench knows no backend {backend!r}; {suggest(backend, BACKENDS)}")


def _open(name: str, settings: Settings, started: Callable[[str], object]) -> _Entry:
    started(f"opening {name}")
    model: Any = YOLO(name).model.float().to(settings.device)
    channels = model.yaml.get("channels", 3)
    return _Entry(
        name, model, torch.rand(settings.batch, channels, settings.imgsz, settings.imgsz, device=settings.device)
    )


def _bench(entries: list[_Entry], wanted: list[str], settings: Settings, started: Callable[[str], object]) -> Bench:
    figures = {}
    for entry in entries:
        started(f"counting {entry.name}")
        figures[entry.name] = _figures(entry, train=settings.train)
    steps = _training(entries, settings, started) if settings.train else {}
    measured, absent = [], {}
    for backend in wanted:
        started(f"timing on {backend}")
        try:
            timings = _timed(backend, entries, settings.rounds)
        except Exception as error:  # a runtime that is not here, or cannot build, has errors of its own
            if backend == "eager":
                raise
            absent[backend] = str(error) if isinstance(error, AttngraftError) else first_line(error)
            continue
        for name, x in ((entry.name, entry.x) for entry in entries):
            everywhere = {key: figures[name][key] for key in ("parameters", "flops")}
            own: dict[str, Any] = (
                {**figures[name], "train_latency": steps.get(name)} if backend == "eager" else everywhere
            )
            measured.append(Measurement(name, backend, (tuple(x.shape),), latency=timings[name], **own))
    return Bench(environment(settings.device), settings, tuple(measured), absent)


def _figures(entry: _Entry, *, train: bool) -> dict[str, int]:
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


def _timed(backend: str, entries: list[_Entry], rounds: int) -> dict[str, Timing]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        calls: dict[str, Call] = {}
        for index, entry in enumerate(entries):
            network = deployed(entry.model).to(entry.x.device).eval()
            calls[entry.name] = BACKENDS[backend](network, entry.x, Path(folder, f"{index}.model"))
        return {timing.name: timing for timing in latency.compare(calls, rounds=rounds)}


def _training(entries: list[_Entry], settings: Settings, started: Callable[[str], object]) -> dict[str, Timing]:
    started("timing training steps")
    calls: dict[str, Call] = {entry.name: entry.loss().step(entry.x) for entry in entries}
    return {timing.name: timing for timing in latency.compare(calls, rounds=settings.rounds, warmup=2)}


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Keep the host from changing how many threads PyTorch may use."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
