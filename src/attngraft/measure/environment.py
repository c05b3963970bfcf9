"""What a figure was taken on: versions and device, so that it can be compared with another or not."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from typing import Annotated

import torch
from pydantic import Field, PositiveInt

from attngraft._core.processor import described, processor

PACKAGES = ("attngraft", "torchvision", "ultralytics", "numpy", "onnx", "onnxruntime", "openvino", "tensorrt")
"""Distributions whose versions can change a figure; looked up by name, never imported."""


@dataclass(frozen=True)
class Environment:
    """Versions and device at one moment.

    Attributes:
        date: When, in UTC, ISO 8601.
        python: Version of the interpreter.
        system: Operating system and architecture.
        device: Name of the accelerator, or of the processor with the vector instructions that PyTorch uses of it, since
            one name is sold over generations: ``"AMD EPYC (AVX512)"``.
        cores: Logical processors that this process may use.
        threads: Threads that PyTorch may use inside one operator.
        versions: Version of PyTorch with its build, and of each installed package of `PACKAGES`.
    """

    date: str
    python: str
    system: str
    device: str
    cores: PositiveInt
    threads: PositiveInt
    versions: Annotated[Mapping[str, str], Field(json_schema_extra={"required": ["torch"]})]


def environment(device: torch.device | str = "cpu") -> Environment:
    """Describe where and on what figures are being taken.

    Args:
        device: The device that they are taken on.

    Example:
        >>> environment().versions["torch"] == torch.__version__
        True
    """
    return Environment(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        device=device_name(torch.device(device)),
        cores=_cores(),
        threads=torch.get_num_threads(),
        versions={"torch": str(torch.__version__), **_versions()},
    )


def device_name(device: torch.device) -> str:
    """Name the hardware behind a device, as its maker does where that can be read; see `Environment`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    name, vectors = described("model name") or platform.processor() or platform.machine(), processor().vectors
    return name if vectors == "DEFAULT" else f"{name} ({vectors})"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
