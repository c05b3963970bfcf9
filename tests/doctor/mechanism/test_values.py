"""Gradients, precision and leaks that are wrong are caught by their check."""

from __future__ import annotations

import re

import torch
from torch import nn

from attngraft.doctor.mechanism import values
from tests.doctor.mechanism.broken import (
    CHECKS,
    CountsImages,
    FailsInTraining,
    TokenMajor,
    find,
    require_caught,
    rows_of,
)


@rows_of(values)
def test_every_check_catches_what_it_is_for(name: str, cls: type[nn.Module], detail: str) -> None:
    require_caught(name, cls, detail)


def test_an_error_that_no_check_expects_names_the_line_that_raises() -> None:
    finding = find(CHECKS["gradient"], FailsInTraining)
    assert (finding.status, finding.detail) == ("fail", "RuntimeError: no training here")
    assert re.match(r'look at broken.py, line \d+: raise RuntimeError\("no training here"\)$', finding.remedy)


def test_pytorchs_fault_with_one_image_fails_where_a_step_has_one() -> None:
    warning, failure = (find(CHECKS["one image"], TokenMajor, batch=batch) for batch in (2, 1))
    assert warning.status == "warn"
    assert failure.status == ("warn" if torch.cuda.is_available() else "fail")
    assert "PyTorch's batch norm on the CPU misreads" in failure.remedy
    assert "batch=2" in failure.remedy


def test_what_depends_on_the_number_of_images_is_not_blamed_on_pytorch() -> None:
    finding = find(CHECKS["one image"], CountsImages)
    assert "PyTorch" not in finding.detail + finding.remedy
