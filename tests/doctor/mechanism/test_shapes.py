"""Widths, sizes, ranks and layouts that are wrong are caught by their check."""

from __future__ import annotations

from torch import nn

from attngraft.doctor.mechanism import shapes
from tests.doctor.mechanism.broken import require_caught, rows_of


@rows_of(shapes)
def test_every_check_catches_what_it_is_for(name: str, cls: type[nn.Module], detail: str) -> None:
    require_caught(name, cls, detail)
