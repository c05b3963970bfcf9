"""What counts as a number in a data file."""

from __future__ import annotations

from typing import Any

import pytest

from attngraft.fit.data.rules import is_number


@pytest.mark.parametrize("value", [0, -3, 1.5, 10**300, -1e308])
def test_finite_numbers_are_numbers(value: float) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [True, False, None, "1", [1], float("nan"), float("inf"), 10**400, -(10**400), 1j])
def test_what_no_float_holds_is_none(value: Any) -> None:
    assert not is_number(value)
