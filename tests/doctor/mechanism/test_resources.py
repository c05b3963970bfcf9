"""FLOPs are held against the record, and memory against what is free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch import Tensor, nn

from attngraft._core.registry import register, unregister
from attngraft.attention import Attention, mechanism
from attngraft.doctor.mechanism.resources import growth
from tests.doctor.mechanism.broken import CHECKS, Quadratic, find


@contextmanager
def registered(cls: type[Attention], **fields: str) -> Iterator[type[Attention]]:
    try:
        yield register(name="made_for_a_test", **fields)(cls)
    finally:
        unregister("made_for_a_test")


class OneConvolution(Attention):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@pytest.mark.parametrize(("cost", "status"), [("N * C**2", "pass"), ("N * C", "fail")])
def test_a_cost_formula_is_held_against_the_count(cost: str, status: str) -> None:
    with registered(OneConvolution, cost=cost):
        finding = find(CHECKS["true flops"], OneConvolution)
    assert finding.status == status
    assert "3.277 MFLOPs at 20x20" in finding.detail
    assert (finding.status == "pass") or "claims 0.0512" in finding.detail


def test_memory_that_does_not_fit_is_refused_with_the_number() -> None:
    finding = find(CHECKS["memory growth"], Quadratic, channels=8, largest=(2000, 2000), batch=4)
    assert finding.status == "fail"
    side = int(finding.detail.rpartition("x")[2])
    assert "GiB at 2000x2000, batch 4; grows quadratically" in finding.detail
    assert "GiB are free, enough for" in finding.detail
    assert 20 < side < 1000


def test_quadratic_memory_is_a_warning_where_it_fits() -> None:
    finding = find(CHECKS["memory growth"], Quadratic, channels=8, largest=(20, 20), batch=1)
    assert finding.status == "warn"
    assert "grows quadratically" in finding.detail


@pytest.mark.parametrize("channels", [16, 64, 256])
def test_the_workspace_of_a_convolution_is_no_quadratic_memory(channels: int) -> None:
    """It is the peak on small maps and does not grow: at 16 channels our own plain_conv failed, at 256 any 3 x 3."""
    finding = find(CHECKS["memory growth"], mechanism("plain_conv").cls, channels=channels, largest=(40, 40))
    assert finding.status == "pass"
    assert "grows linearly" in finding.detail


def test_a_record_that_claims_linear_memory_is_held_to_it() -> None:
    class Claims(Quadratic, Attention):
        def __init__(self, channels: int) -> None:
            Attention.__init__(self, channels)
            self.qkv = nn.Conv2d(channels, 3 * channels, 1)

    with registered(Claims, growth="N"):
        finding = find(CHECKS["memory growth"], Claims, channels=8, largest=(20, 20), batch=1)
    assert (finding.status, finding.remedy) == ("fail", "correct the record, or the kernel")
    assert "its record claims linear memory" in finding.detail


@pytest.mark.parametrize(
    ("peaks", "at_100", "quadratic"),
    [
        ({10: 1030, 20: 1060, 30: 1090}, 1300, False),
        ({10: 5230, 20: 5860, 30: 6890}, 25300, True),
        ({10: 400, 20: 500, 30: 520}, 660, False),  # tiles that fill up: the last slope goes on
    ],
    ids=["linear", "quadratic", "saturating"],
)
def test_growth_is_fitted_and_extended(peaks: dict[int, int], at_100: float, quadratic: bool) -> None:
    bytes_at, found = growth(peaks)
    assert (bytes_at(100), found) == (at_100, quadratic)
