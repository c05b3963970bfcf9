"""Gradients, precision and leaks that are wrong are caught by their check."""

from __future__ import annotations

import re

import pytest
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


class Noisy(nn.Module):
    """A convolution with dropout as a layer, or as a call."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix, self.drop = nn.Conv2d(channels, channels, 1), nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.drop(self.mix(x))
        return y


class NoisyCall(Noisy):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.mix(x), 0.3, self.training)


class RunningMean(nn.Module):
    """A statistic that is noted in training and used there too."""

    mean: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean((0, 2, 3)))
        y: torch.Tensor = self.mix(x - self.mean[:, None, None])
        return y


@pytest.mark.parametrize("cls", [Noisy, NoisyCall, RunningMean])
def test_a_healthy_module_that_is_not_the_same_twice_is_not_accused(cls: type[nn.Module]) -> None:
    """Dropout was 109 % off in half precision, and a running mean gave wrong gradients with one image."""
    found = {name: find(CHECKS[name], cls, batch=2).status for name in ("half precision", "one image")}
    assert found["half precision"] == "pass"
    assert found["one image"] == "pass" or cls is NoisyCall  # whose two runs differ by its own noise
