"""Gradients, precision and leaks that are wrong are caught by their check."""

from __future__ import annotations

import re

from torch import nn

from attngraft.doctor.mechanism import values
from tests.doctor.mechanism.broken import CHECKS, FailsInTraining, find, require_caught, rows_of


@rows_of(values)
def test_every_check_catches_what_it_is_for(name: str, cls: type[nn.Module], detail: str) -> None:
    require_caught(name, cls, detail)


def test_an_error_that_no_check_expects_names_the_line_that_raises() -> None:
    finding = find(CHECKS["gradient"], FailsInTraining)
    assert (finding.status, finding.detail) == ("fail", "RuntimeError: no training here")
    assert re.match(r'look at broken.py, line \d+: raise RuntimeError\("no training here"\)$', finding.remedy)
