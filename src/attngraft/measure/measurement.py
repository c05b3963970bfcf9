"""Modules side by side, and the JSON that the figures are stored in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import NonNegativeInt
from torch import nn

from attngraft._core.calls import Example, arguments, forward, mode, training_step, untouched
from attngraft._core.schemas import json_schema
from attngraft.measure import latency, memory
from attngraft.measure.counting import flops, parameters, weight_bytes
from attngraft.measure.environment import Environment, device_name, environment
from attngraft.measure.latency import Timing

SCHEMA = "attngraft.measure/2"
"""Since version 2 every measurement names its device."""


@dataclass(frozen=True)
class Measurement:
    """What one subject costs on one backend; None stands for what was not measured.

    Attributes:
        name: The subject.
        backend: What ran it: "eager", "compiled", "onnxruntime", "openvino", "tensorrt".
        device: Name of the processor or accelerator that it ran on.
        inputs: Shapes of its inputs.
        parameters: Numbers it learns.
        weight_bytes: Bytes of its parameters and buffers.
        flops: FLOPs of one call, two for each multiply-add.
        train_flops: FLOPs of one training step.
        peak_bytes: Peak of what an inference allocates.
        train_peak_bytes: Peak of what a training step allocates.
        latency: Time of an inference.
        train_latency: Time of a training step without the optimizer.
    """

    name: str
    backend: str
    device: str
    inputs: tuple[tuple[NonNegativeInt, ...], ...]
    parameters: NonNegativeInt | None = None
    weight_bytes: NonNegativeInt | None = None
    flops: NonNegativeInt | None = None
    train_flops: NonNegativeInt | None = None
    peak_bytes: NonNegativeInt | None = None
    train_peak_bytes: NonNegativeInt | None = None
    latency: Timing | None = None
    train_latency: Timing | None = None


@dataclass(frozen=True)
class Report:
    """Measurements of one run; ratios are against the first.

    Attributes:
        environment: What they were taken on.
        measurements: One for each subject and backend.
    """

    environment: Environment
    measurements: tuple[Measurement, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the form that `schema` describes, of plain values only."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"schema": SCHEMA, **plain}


def measure(
    modules: Mapping[str, nn.Module], example: Example, *, train: bool = True, rounds: int = 30, warmup: int = 3
) -> Report:
    """Measure modules on the same input, side by side, as they are run without a compiler.

    Args:
        modules: What to measure, by name; ratios are against the first.
        example: The input of all of them; make it with ``requires_grad=True`` to stand for a layer inside a network.
        train: Whether to measure a training step too.
        rounds: How often to time each.
        warmup: How many rounds to throw away first.

    Returns:
        The figures; the modules are left as they were.

    Example:
        >>> import torch
        >>> report = measure({"thin": nn.Linear(8, 8), "wide": nn.Linear(8, 80)}, torch.zeros(4, 8), rounds=3)
        >>> [m.parameters for m in report.measurements]
        [72, 720]
    """
    inference = _timings(modules, example, train=False, rounds=rounds, warmup=warmup)
    training = _timings(modules, example, train=True, rounds=rounds, warmup=warmup) if train else {}
    measurements = tuple(
        Measurement(
            name=name,
            backend="eager",
            device=device_name(arguments(example)[0].device),
            inputs=tuple(tuple(x.shape) for x in arguments(example)),
            parameters=parameters(module),
            weight_bytes=weight_bytes(module),
            flops=flops(module, example),
            train_flops=flops(module, example, train=True) if train else None,
            peak_bytes=memory.peak(module, example),
            train_peak_bytes=memory.peak(module, example, train=True) if train else None,
            latency=inference[name],
            train_latency=training.get(name),
        )
        for name, module in modules.items()
    )
    return Report(environment(arguments(example)[0].device), measurements)


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of `Report.to_dict`."""
    return json_schema(Report, SCHEMA)


def _timings(
    modules: Mapping[str, nn.Module], example: Example, *, train: bool, rounds: int, warmup: int
) -> dict[str, Timing]:
    calls = {name: (training_step if train else forward)(module, example) for name, module in modules.items()}
    with ExitStack() as stack:
        for module in modules.values():
            stack.enter_context(mode(module, train=train))
            stack.enter_context(untouched(module))
        return {timing.name: timing for timing in latency.compare(calls, rounds=rounds, warmup=warmup)}
