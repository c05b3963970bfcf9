"""Order and chance: which image comes when, and what augmentation does to it, as a function of the seed alone.

The random numbers of an image come from the seed, the epoch and its index. So a run that was interrupted continues
with the pixels it would have had, however many processes load them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import distributed
from torch.utils.data import Sampler

Key = tuple[int, int]
"""What a data set is indexed with: epoch and index."""


class EpochSampler(Sampler[Key]):
    """Yield this process's share of every epoch; Lightning says which epoch it is.

    Args:
        length: Images in the data set.
        seed: Of the order.
        training: Whether to shuffle, and to give every process equally many: those that are left over come in another
            epoch, and where there are fewer images than processes they come several times. Otherwise each comes once.
    """

    def __init__(self, length: int, *, seed: int, training: bool) -> None:
        self.length = length
        self.seed = seed
        self.training = training
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Key]:
        rank, world = _place()
        order = np.arange(self.length)
        if self.training:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
            order = np.resize(order, len(self) * world)
        yield from ((self.epoch, int(index)) for index in order[rank::world])

    def __len__(self) -> int:
        rank, world = _place()
        return max(self.length // world, 1) if self.training else len(range(rank, self.length, world))


@contextmanager
def chance(seed: int, key: Key) -> Iterator[None]:
    """Let PyTorch's random numbers on the CPU depend on nothing but the seed and the key, and restore them after."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(mixed(seed, *key))
    try:
        yield
    finally:
        torch.set_rng_state(state)


def mixed(*numbers: int) -> int:
    """Make one seed of several numbers.

    Example:
        >>> mixed(0, 1) != mixed(1, 0)
        True
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _place() -> tuple[int, int]:
    """Return the number of this process and how many there are."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
