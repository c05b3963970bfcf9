"""What the system says of the processor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from attngraft._core import processor

CPUINFO = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon: 8 cores\n\nprocessor\t: 1\nvendor_id\t: Other\n"
)


@pytest.fixture(autouse=True)
def forgetting() -> Iterator[None]:
    for cached in (processor.described, processor.processor):
        cached.cache_clear()
    yield
    for cached in (processor.described, processor.processor):
        cached.cache_clear()


def test_the_first_core_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    assert processor.described("vendor_id") == "GenuineIntel"
    assert processor.described("model name") == "Xeon: 8 cores"
    assert processor.described("model") == ""
    assert processor.processor().maker == "GenuineIntel"


def test_a_system_that_says_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    found = processor.processor()
    assert found == ("", torch.backends.cpu.get_cpu_capability(), False)


@pytest.mark.parametrize("amx", [True, False])
def test_amx_is_asked_of_pytorch(monkeypatch: pytest.MonkeyPatch, amx: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert processor.processor().amx is amx
