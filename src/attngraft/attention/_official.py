"""How the state of an authors' module becomes that of ours: what the converters of single mechanisms share."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from attngraft._core.errors import CheckpointError


def renamed(who: str, state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename the tensors of an authors' module by the beginnings of their names.

    Args:
        who: The mechanism.
        state: The state dict of the authors' module.
        names: What a name of theirs begins with, up to a dot or its end, and what takes that place.

    Raises:
        CheckpointError: If a tensor has another name, or a name has no tensor.
    """
    found: dict[str, Tensor] = {}
    used = set()
    for name, tensor in state.items():
        old = next((old for old in names if name == old or name.startswith(f"{old}.")), None)
        if old is None:
            raise CheckpointError(f"a state of the authors' {who} has no tensor {name}; it has {', '.join(names)}")
        used.add(old)
        found[names[old] + name.removeprefix(old)] = tensor
    missing = [old for old in names if old not in used]
    if missing:
        raise CheckpointError(f"a state of the authors' {who} has {missing[0]}, and this one lacks it")
    return found


def without_bias(state: dict[str, Tensor], layer: str, norm: str) -> None:
    """Move the bias of a layer into the running mean of the batch norm after it, which cancels it in any case.

    Args:
        state: A state dict, which is changed.
        layer: Name of the layer.
        norm: Name of the norm.
    """
    mean = f"{norm}.running_mean"
    state[mean] = state[mean] - state.pop(f"{layer}.bias")
