"""Draw an image again with one random choice changed and every other one as it was.

If the change turns a uniform choice around (heads for tails, one permutation for another), both images are equally
likely. If their classes differ and what surrounds the object does not, then nothing there tells the class: not a pixel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence

from attngraft.data.scenes import Scene

Choice = tuple[str, int, Callable[[Any], Any]]
"""A call as it is written, which one of these it is, from 0, and what to make of what it gives."""


class Replay(Generator):
    """The source of randomness of one image, which changes what it gives at some calls."""

    def __init__(self, index: int, choices: tuple[Choice, ...]) -> None:
        super().__init__(PCG64(SeedSequence((0, 0, index))))
        self.changes = {(call, number): change for call, number, change in choices}
        self.calls: Counter[str] = Counter()

    def integers(self, *args: Any, **options: Any) -> Any:
        return self._given("integers", args, super().integers(*args, **options))

    def permutation(self, *args: Any, **options: Any) -> Any:
        return self._given("permutation", args, super().permutation(*args, **options))

    def random(self, *args: Any, **options: Any) -> Any:
        return self._given("random", args, super().random(*args, **options))

    def _given(self, name: str, args: tuple[Any, ...], value: Any) -> Any:
        call = f"{name}({', '.join(map(repr, args))})"
        change = self.changes.pop((call, self.calls[call]), None)
        self.calls[call] += 1
        return value if change is None else change(value)


def replayed(draw: Callable[[Generator], Scene], index: int, *choices: Choice) -> Scene:
    """Draw an image with some choices changed."""
    source = Replay(index, choices)
    scene = draw(source)
    assert not source.changes, f"no such choice is drawn: {list(source.changes)}; name those that decide the class now"
    return scene


def other(value: Any) -> Any:
    """Turn a coin around, or an array of coins or of shares of one."""
    return 1 - np.asarray(value)
