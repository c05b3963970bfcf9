"""Numbers as reports write them."""

from __future__ import annotations

import math


def points(value: float) -> str:
    """Write AP points, or a dash where there are none.

    Example:
        >>> points(41.236), points(float("nan"))
        ('41.24', '–')
    """
    return f"{value:.2f}" if math.isfinite(value) else "–"


def level(mean: float, deviation: float | None) -> str:
    """Write AP points with their standard deviation over seeds, where there is one.

    Example:
        >>> level(41.236, 0.318), level(41.236, None)
        ('41.24 ± 0.32', '41.24')
    """
    return points(mean) if deviation is None else f"{points(mean)} ± {points(deviation)}"


def signed(value: float) -> str:
    """Write a difference with its sign; infinite ends of an interval stay readable.

    Example:
        >>> signed(-0.5), signed(float("inf")), signed(-0.001)
        ('−0.50', '+∞', '0.00')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    text = f"{abs(value):.2f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


def between(low: float, high: float) -> str:
    """Write an interval, or a dash where nothing is known of it.

    Example:
        >>> between(-0.1, 0.2), between(float("-inf"), float("inf"))
        ('−0.10 to +0.20', '–')
    """
    known = math.isfinite(low) or math.isfinite(high)
    return f"{signed(low)} to {signed(high)}" if known else "–"


def count(value: float | None) -> str:
    """Write a large number shortly.

    Example:
        >>> [count(n) for n in (31, 131_650, 2_600_000, 6.5e9)]
        ['31', '132 k', '2.60 M', '6.50 G']
    """
    if value is None:
        return "–"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.0f} {letter}" if letter == "k" else f"{value / size:.2f} {letter}"
    return f"{value:.0f}"
