"""Interleaving, statistics and records of timings."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from attngraft.measure import latency


def test_rounds_are_interleaved_in_changing_order() -> None:
    made: list[str] = []
    calls = {name: lambda name=name: made.append(name) for name in "abc"}
    timings = latency.compare(calls, rounds=20, warmup=2)
    rounds = ["".join(made[i : i + 3]) for i in range(0, len(made), 3)]
    assert len(rounds) == 22
    assert all(sorted(r) == list("abc") for r in rounds)
    assert len(set(rounds)) > 1
    assert [t.name for t in timings] == list("abc")
    assert all(t.rounds == len(t.samples_ms) == 20 for t in timings)


def test_ratio_is_against_the_first_and_inside_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = 0  # nanoseconds on a clock that only the calls move

    def last(milliseconds: list[float]) -> None:
        nonlocal passed
        passed += int(milliseconds.pop() * 1e6)

    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: passed)
    short_ms, long_ms = [2.0] * 9, [6.0, 6, 6, 7, 6, 6, 9, 6, 6]
    calls = {"short": lambda: last(short_ms), "long": lambda: last(long_ms)}
    short, long = latency.compare(calls, rounds=8, warmup=1)
    assert (short.ratio, short.ratio_low, short.ratio_high) == (1, 1, 1)
    assert 3 == long.ratio_low == long.ratio <= long.ratio_high <= 4.5
    assert long.p50_ms == 6
    assert 6 < long.p90_ms <= 9
    assert long.threads == torch.get_num_threads()


def test_processor_time_is_of_another_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = 0

    def call() -> None:
        nonlocal passed
        passed += int(3e6)

    monkeypatch.setattr(latency.time, "process_time_ns", lambda: passed)
    (timing,) = latency.compare({"call": call}, rounds=4, warmup=1, processor_time=True)
    assert timing.samples_ms == (3.0,) * 4


def test_a_drift_of_the_machine_cancels_in_the_ratio() -> None:
    times = np.geomspace(1, 100, 50)
    timing = latency._timing("twice", 2 * times, times, seed=0)
    assert (timing.ratio, timing.ratio_low, timing.ratio_high) == pytest.approx((2, 2, 2))


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        low, high = latency.bootstrap_median(rng.lognormal(0, 0.5, 30), seed)
        hits += low <= 1 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_the_collector_is_off_only_while_timing() -> None:
    seen: list[bool] = []
    latency.compare({"call": lambda: seen.append(gc.isenabled())}, rounds=2, warmup=1)
    assert seen == [False] * 3
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("calls", "options", "message"),
    [
        ({}, {}, "at least one call, got none"),
        ({"a": int}, {"rounds": 0}, "rounds to be a positive integer, got 0"),
        ({"a": int}, {"warmup": 0}, "warmup to be a positive integer, got 0"),
    ],
)
def test_what_cannot_be_timed_is_refused(calls: dict[str, type], options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        latency.compare(calls, **options)
