"""How long calls take beside each other: interleaved rounds in random order, so that drift hits all of them alike."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from attngraft._core.checks import positive
from attngraft._core.collector import no_garbage_collection
from attngraft._core.errors import OptionError

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Timing:
    """The time of one call among others.

    Attributes:
        name: What was called.
        threads: Threads that PyTorch could use inside one operator.
        rounds: How often it was timed.
        p50_ms: Median, in milliseconds.
        p90_ms: 90th percentile, in milliseconds.
        ratio: Median over the rounds of its time by the first call's time in the same round; 1.2 is 20 % slower.
        ratio_low: Lower end of the ratio's 95 % interval, by bootstrap over the rounds.
        ratio_high: Upper end of that interval.
        samples_ms: Every round's time, in milliseconds, in the order of the rounds.
    """

    name: str
    threads: PositiveInt
    rounds: PositiveInt
    p50_ms: PositiveFloat
    p90_ms: PositiveFloat
    ratio: PositiveFloat
    ratio_low: PositiveFloat
    ratio_high: PositiveFloat
    samples_ms: tuple[PositiveFloat, ...]


def compare(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 30,
    warmup: int = 3,
    seed: int = 0,
    processor_time: bool = False,
) -> list[Timing]:
    """Time calls against the first of them.

    A round makes every call once, in an order of its own. Ratios are taken inside a round, where both calls met the
    same state of the machine; times of different runs do not compare.

    Args:
        calls: What to call, by name; the first is what the others are compared with.
        rounds: How often to time each.
        warmup: How many rounds to throw away first.
        seed: Of the orders and the bootstrap.
        processor_time: Whether to count the time that processors worked for this process, all its threads together,
            and not the time that passed: for one thread on a machine that other programs use too.

    Returns:
        A record for each call, in the order given.

    Raises:
        OptionError: If there is nothing to call, or ``rounds`` or ``warmup`` is below 1.

    Example:
        >>> first, second = compare({"one": lambda: sum(range(10)), "other": lambda: sum(range(10_000))}, rounds=5)
        >>> first.ratio, second.name, len(second.samples_ms)
        (1.0, 'other', 5)
    """
    positive("latency.compare", rounds=rounds, warmup=warmup)
    if not calls:
        raise OptionError("latency.compare needs at least one call, got none; give {name: callable}")
    order = random.Random(seed)
    clock = time.process_time_ns if processor_time else time.perf_counter_ns
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    gc.collect()
    with no_garbage_collection():
        for turn in range(warmup + rounds):
            order.shuffle(names)
            for name in names:
                elapsed = _milliseconds(calls[name], clock)
                if turn >= warmup:
                    samples[name].append(elapsed)
    times = {name: np.array(values) for name, values in samples.items()}
    base = times[next(iter(calls))]
    return [_timing(name, times[name], base, seed) for name in calls]


def _milliseconds(call: Callable[[], object], clock: Callable[[], int]) -> float:
    _wait()
    start = clock()
    kept = call()
    _wait()
    elapsed = clock() - start
    del kept
    return elapsed / 1e6


def _wait() -> None:
    """Let an accelerator finish what it was given; it is given work before it does it."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


def _timing(name: str, times: NDArray[np.float64], base: NDArray[np.float64], seed: int) -> Timing:
    ratios = times / base
    low, high = bootstrap_median(ratios, seed)
    p50, p90 = np.percentile(times, [50, 90])
    return Timing(
        name=name,
        threads=torch.get_num_threads(),
        rounds=len(times),
        p50_ms=float(p50),
        p90_ms=float(p90),
        ratio=float(np.median(ratios)),
        ratio_low=low,
        ratio_high=high,
        samples_ms=tuple(times.tolist()),
    )


def bootstrap_median(values: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the 95 % percentile-bootstrap interval of a median.

    Args:
        values: One number a round, of rank 1.
        seed: Of the resampling.
    """
    rng = np.random.default_rng(seed)
    medians = np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    return float(low), float(high)
