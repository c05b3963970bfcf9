"""How checks compare results, and collect what a stranger's code raises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from attngraft._core.errors import MissingExtraError

CLOSE = 1e-4
"""Relative difference up to which two float32 results are the same computation in another order."""


def distance(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference by the largest magnitude expected; infinite where something is not finite."""
    off = (actual.detach() - expected.detach()).abs().max().item()
    scale = expected.detach().abs().max().item()
    if not math.isfinite(off):
        return math.inf
    return off / scale if scale else (math.inf if off else 0.0)


def has_nonfinite(values: Tensor | None) -> bool:
    """Tell whether something in a tensor is not finite."""
    return values is not None and not bool(values.isfinite().all())


def problems(trials: Mapping[str, Callable[[], object]]) -> dict[str, Exception]:
    """Run each trial, and return what those raise that do."""
    found: dict[str, Exception] = {}
    for name, trial in trials.items():
        try:
            trial()
        except MissingExtraError:
            raise
        except Exception as error:  # noqa: BLE001 (a stranger's code)
            found[name] = error
    return found
