"""Records without training, for everything that counts, writes or draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from attngraft.probe.instrument import Instrument, ProbeRecord

Make = Callable[..., ProbeRecord]


@pytest.fixture
def made() -> Make:
    """Return what makes a record; fields are given where they matter."""
    plain = ProbeRecord(
        Instrument().hash, "mhsa", "reach", False, 0, 0.98, 99.0, 250, (0.5, 0.98), ((0, 4, 4), (8, 4, 3)), 100, 9.0,
        "2026-01-01T00:00:00+00:00", {"torch": "2.14.1", "ultralytics": "8.4.190"}, "a processor",
    )  # fmt: skip

    def make(**fields: Any) -> ProbeRecord:
        return replace(plain, **fields)

    return make
