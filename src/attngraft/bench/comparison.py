"""The figures of a comparison, and the JSON that they are stored in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from attngraft._core.checks import positive
from attngraft._core.errors import OptionError, OutputError
from attngraft._core.files import write_text
from attngraft._core.schemas import json_schema
from attngraft.measure import Environment, Measurement

SCHEMA = "attngraft.bench/2"
"""Since version 2 every measurement names its device, sizes are height and width, and absences name the detector."""


@dataclass(frozen=True)
class Settings:
    """How detectors are compared.

    Attributes:
        imgsz: Height and width of the images, in pixels.
        asked: Those that were asked for, where they are no multiples of the largest stride.
        batch: Images at once.
        rounds: How often each is timed.
        train: Whether a training step is measured too.
        device: Where PyTorch runs them.
    """

    imgsz: tuple[PositiveInt, PositiveInt] = (640, 640)
    asked: tuple[PositiveInt, PositiveInt] = (640, 640)
    batch: PositiveInt = 1
    rounds: PositiveInt = 30
    train: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        positive("bench", height=self.imgsz[0], width=self.imgsz[1], batch=self.batch, rounds=self.rounds)
        if not isinstance(self.train, bool):
            raise OptionError(f"bench needs train to be True or False, got {self.train!r}")

    @property
    def size(self) -> str:
        """The images' size in words."""
        return "{} x {}".format(*self.imgsz)


@dataclass(frozen=True)
class Bench:
    """Detectors side by side; every ratio is against the first detector that was measured on the same backend.

    Attributes:
        environment: What the figures were taken on; ``device`` is where PyTorch ran.
        settings: How they were taken.
        measurements: One for each detector and backend. Parameters are those that are trained, FLOPs, memory and
            latency those of the fused model that is deployed, except in training.
        absent: Why a detector was not measured on a backend, by the backend's and the detector's names.
        kernels: The kernels that a detector's attention took with PyTorch, each with the reason, by the detector's
            name; a detector without such attention is not there. See `attngraft.attention.chosen_kernel`.
    """

    environment: Environment
    settings: Settings
    measurements: tuple[Measurement, ...]
    absent: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    kernels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The detectors that were measured somewhere, in order."""
        return list(dict.fromkeys(m.name for m in self.measurements))

    @property
    def backends(self) -> list[str]:
        """The backends that were measured, in order."""
        return list(dict.fromkeys(m.backend for m in self.measurements))

    def on(self, backend: str) -> list[Measurement]:
        """Return the measurements on one backend, in the order of the detectors."""
        return [m for m in self.measurements if m.backend == backend]

    def to_dict(self) -> dict[str, Any]:
        """Return the form that `schema` describes, of plain values only."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"schema": SCHEMA, **plain}

    def write(self, file: str | Path) -> Path:
        """Write the JSON.

        Args:
            file: Where to; never overwritten.

        Raises:
            OutputError: If it is there already.
        """
        file = Path(file)
        if file.exists():
            raise OutputError(f"{file} exists and is left as it is; name another file")
        write_text(file, json.dumps(self.to_dict(), indent=1) + "\n")
        return file


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of `Bench.to_dict`."""
    found = json_schema(Bench, SCHEMA)
    found["required"].remove("kernels")  # version 2 had none at first, and its files stay valid
    return found
