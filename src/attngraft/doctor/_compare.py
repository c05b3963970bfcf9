"""How checks compare results, and collect what a stranger's code raises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from attngraft.doctor.findings import said

CLOSE = 1e-4
"""Relative difference up to which two float32 results are the same computation in another order."""


def distance(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference by the largest magnitude expected; infinite where something is not finite."""
    off = (actual.detach() - expected.detach()).abs().max().item()
    scale = expected.detach().abs().max().item()
    if not math.isfinite(off):
        return math.inf
    return off / scale if scale else (math.inf if off else 0.0)


def sick(values: Tensor | None) -> bool:
    """Tell whether something in a tensor is not finite."""
    return values is not None and not bool(values.isfinite().all())


def problems(trials: Mapping[str, Callable[[], object]]) -> list[str]:
    """Run each trial, and list those that raise with what they say."""
    found = []
    for name, trial in trials.items():
        try:
            trial()
        except Exception as error:  # noqa: BLE001 (a stranger's code)
            found.append(f"{name}: {said(error)}")
    return found
