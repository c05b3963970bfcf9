"""Mechanisms that break a detector in one way each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doctor.detector.kit import broken_mechanisms


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with broken_mechanisms(tmp_path_factory.mktemp("broken")):
        yield
