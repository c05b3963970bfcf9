"""`bench`: build every detector, then time them in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attngraft._core.calls import mode
from attngraft._core.checks import positive
from attngraft._core.errors import AttngraftError, OptionError, suggest
from attngraft.bench.backends import BACKENDS, Call, deployed
from attngraft.bench.report import Bench
from attngraft.export.parity import first_line
from attngraft.measure import Measurement, Timing, environment, flops, latency, memory, parameters, weight_bytes
from attngraft.yolo import YOLO
from attngraft.yolo.training import in_place, step


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
    positive("bench", imgsz=imgsz, batch=batch, rounds=rounds)
    _check(names, wanted)
    with _threads_kept():
        return _bench(names, wanted, imgsz, batch, train, rounds, device, started)


def _bench(
    names: list[str],
    wanted: list[str],
    imgsz: int,
    batch: int,
    train: bool,
    rounds: int,
    device: str,
    started: Callable[[str], object],
) -> Bench:
    loaded: dict[str, Any] = {}
    for name in names:
        started(f"opening {name}")
        loaded[name] = YOLO(name).model.float().to(device)
    channels = {name: model.yaml.get("channels", 3) for name, model in loaded.items()}
    inputs = {name: torch.rand(batch, channels[name], imgsz, imgsz, device=device) for name in names}
    sizes = {name: _figures(model, inputs[name], train, started, name) for name, model in loaded.items()}
    steps = _training(names, imgsz, batch, rounds, device, started) if train else {}
    measured, absent = [], {}
    for backend in wanted:
        started(f"timing on {backend}")
        try:
            timings = _timed(backend, loaded, inputs, rounds)
        except Exception as error:  # a runtime that is not here, or cannot build, has errors of its own
            if backend == "eager":
                raise
            absent[backend] = str(error) if isinstance(error, AttngraftError) else first_line(error)
            continue
        for name in names:
            own = sizes[name] if backend == "eager" else {key: sizes[name][key] for key in ("parameters", "flops")}
            shape = (tuple(inputs[name].shape),)
            step_time = steps.get(name) if backend == "eager" else None
            measured.append(Measurement(name, backend, shape, latency=timings[name], train_latency=step_time, **own))
    settings = {"imgsz": imgsz, "batch": batch, "rounds": rounds, "train": train, "device": device}
    return Bench(environment(device), settings, tuple(measured), absent)


def _check(names: list[str], wanted: list[str]) -> None:
    if not names:
        raise OptionError("bench needs at least one model, got none; name recipes, YAMLs or checkpoints")
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"bench compares different models, and {name} is given twice; give it once")
    for backend in wanted:
        if backend not in BACKENDS:
            raise OptionError(f"bench knows no backend {backend!r}; {suggest(backend, BACKENDS)}")


def _figures(
    model: Any, x: torch.Tensor, train: bool, started: Callable[[str], object], name: str
) -> dict[str, int | None]:
    """Return what does not depend on time."""
    started(f"counting {name}")
    network = deployed(model).to(x.device)
    found: dict[str, int | None] = {
        "parameters": parameters(model),
        "weight_bytes": weight_bytes(network),
        "flops": flops(network, x),
        "peak_bytes": memory.peak(network, x),
    }
    if train:
        for parameter in in_place(model, wanted=False).parameters():
            parameter.requires_grad_(True)
        found |= {"train_flops": flops(model, x, train=True), "train_peak_bytes": memory.peak(model, x, train=True)}
    return found


def _timed(
    backend: str, loaded: Mapping[str, Any], inputs: Mapping[str, torch.Tensor], rounds: int
) -> dict[str, Timing]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        calls: dict[str, Call] = {}
        for index, (name, model) in enumerate(loaded.items()):
            network: nn.Module = deployed(model).to(inputs[name].device)
            with mode(network, train=False):
                calls[name] = BACKENDS[backend](network, inputs[name], Path(folder, f"{index}.model"))
        return {timing.name: timing for timing in latency.compare(calls, rounds=rounds)}


def _training(
    names: list[str], imgsz: int, batch: int, rounds: int, device: str, started: Callable[[str], object]
) -> dict[str, Timing]:
    started("timing training steps")
    options = {"imgsz": imgsz, "batch": batch, "device": device}
    calls: dict[str, Call] = {name: step(name, options) for name in names}
    return {timing.name: timing for timing in latency.compare(calls, rounds=rounds, warmup=2)}


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Keep the host from changing how many threads PyTorch may use."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
