"""Distances, and what a stranger's code raises."""

from __future__ import annotations

import math

import pytest
import torch

from attngraft._core.errors import MissingExtraError
from attngraft.doctor.comparing import distance, has_nonfinite, problems


def test_distance_is_relative_to_the_largest_magnitude_expected() -> None:
    expected = torch.tensor([1.0, -4.0])
    assert distance(torch.tensor([1.0, -5.0]), expected) == 0.25
    assert distance(expected, expected) == 0.0
    assert distance(torch.zeros(2), torch.zeros(2)) == 0.0
    assert distance(torch.ones(2), torch.zeros(2)) == math.inf
    assert distance(torch.tensor([math.nan, 0.0]), expected) == math.inf


def test_what_is_not_finite_is_seen() -> None:
    assert not has_nonfinite(None)
    assert not has_nonfinite(torch.ones(3))
    assert has_nonfinite(torch.tensor([1.0, math.inf]))
    assert has_nonfinite(torch.tensor([math.nan]))


def test_problems_are_those_that_raise_and_a_missing_package_is_none() -> None:
    found = problems({"good": lambda: 1, "bad": lambda: 1 / 0})
    assert list(found) == ["bad"]
    assert isinstance(found["bad"], ZeroDivisionError)

    def missing() -> None:
        raise MissingExtraError("onnx", "export")

    with pytest.raises(MissingExtraError, match="needs onnx"):
        problems({"missing": missing})
