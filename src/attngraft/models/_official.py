"""What the converters of the authors' checkpoints share: where tensors are, and how tables and linear layers lie."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from attngraft._core.errors import CheckpointError

HOLDERS = ("model", "state_dict")
"""Under which keys training scripts save a network beside their own state."""


def tensors_of(who: str, state: Mapping[str, Any], expected: Sequence[str]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint.

    Args:
        who: The network.
        state: The checkpoint as loaded, or the part of it that holds the network.
        expected: Names that the authors' network of this kind has.

    Raises:
        CheckpointError: If one is missing.
    """
    held: Mapping[str, Any] = next((state[key] for key in HOLDERS if isinstance(state.get(key), Mapping)), state)
    tensors = {str(name).removeprefix("module."): value for name, value in held.items() if isinstance(value, Tensor)}
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise CheckpointError(
            f"a checkpoint of the authors' {who} has {' and '.join(expected)}, and this one lacks {missing[0]}; it has "
            f"{', '.join(list(tensors)[:3]) or 'no tensors'}"
        )
    return tensors


def refuse(who: str, tensors: Mapping[str, Tensor], pattern: str, why: str) -> None:
    """Raise if a name contains a pattern.

    Raises:
        CheckpointError: With the name and the reason.
    """
    found = next((name for name in tensors if re.search(pattern, name)), None)
    if found is not None:
        raise CheckpointError(f"this checkpoint of the authors' {who} has {found}: {why}")


def renamed(name: str, patterns: Sequence[tuple[str, str]]) -> str:
    """Apply substitutions to a name, one after the other."""
    for pattern, ours in patterns:
        name = re.sub(pattern, ours, name)
    return name


def pointwise(weight: Tensor) -> Tensor:
    """Turn the weight of a linear layer to that of a 1x1 convolution, and leave other tensors."""
    return weight[:, :, None, None] if weight.dim() == 2 else weight


def square_map(name: str, table: Tensor) -> Tensor:
    """Turn a table of tokens ``(1, N, C)`` to a map ``(C, side, side)``.

    Raises:
        CheckpointError: If the tokens are not those of a square image.
    """
    side = math.isqrt(table.shape[1])
    if side**2 != table.shape[1]:
        raise CheckpointError(f"{name} is for {table.shape[1]} cells, which are not those of a square image")
    return table[0].T.reshape(-1, side, side)
