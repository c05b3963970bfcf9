"""What a graft does at all: how much it changes its map, and what becomes of the detections without it.

A graft is ``x + gamma f(x)``, or ``x + gamma (f(x) - x)`` for a gate. A vivid map of an attention behind a gamma near
zero is decoration; `strength` and `without` tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import MapError, suggest
from attngraft.maps.recording import require_recordable


def grafts(model: nn.Module) -> dict[str, nn.Module]:
    """Return the grafts of a model by path, known by their parts: a mechanism, its role and gamma."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, "mechanism", None), nn.Module)
        and hasattr(module, "gamma")
        and hasattr(module, "role")
    }


class Strength:
    """How much one graft changed its map in its last recorded call.

    Attributes:
        name: Path of the graft.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._maps: tuple[Tensor, Tensor] | None = None

    def ratio(self) -> Tensor:
        """Return ``|change| / |x|`` of each image, ``(B,)``, in the Euclidean norm over the whole map."""
        return self._of((1, 2, 3))

    def per_cell(self) -> Tensor:
        """Return the same of each cell's vector, ``(B, H, W)``."""
        return self._of((1,))

    def per_channel(self) -> Tensor:
        """Return the same of each channel's plane, ``(B, C)``."""
        return self._of((2, 3))

    def _of(self, axes: tuple[int, ...]) -> Tensor:
        if self._maps is None:
            raise MapError(f"{self.name} has not run in the with block; call this very model there, not a copy of it")
        change, x = (torch.linalg.vector_norm(part.double(), dim=axes) for part in self._maps)
        return torch.where(change > 0, change / x, 0.0)  # infinite where a graft makes something of nothing


@contextmanager
def strength(model: nn.Module) -> Iterator[dict[str, Strength]]:
    """Record how much each graft changes its map while the model runs.

    Args:
        model: A grafted model in evaluation mode.

    Yields:
        The grafts by path, filled when the model runs; the last call counts.

    Raises:
        MapError: If the model cannot be recorded, or has no graft.
    """
    require_recordable(model)
    found = _required(model)
    strengths = {name: Strength(name) for name in found}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, inputs: Any, output: Tensor) -> None:
            x = inputs[0].detach()
            strengths[name]._maps = output.detach() - x, x.clone()

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in found.items()]
    try:
        yield strengths
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without(model: nn.Module, names: Sequence[str] | None = None) -> Iterator[None]:
    """Run a model without some of its grafts, as with their gamma at zero, inside a with block.

    It is the causal test: what the detections lose rests on the graft, whatever its map looks like. No weight is
    touched.

    Args:
        model: A grafted model.
        names: Paths of the grafts to leave out; None leaves out all.

    Raises:
        MapError: If the model has no such graft.
    """
    found = _required(model)
    for name in names or ():
        if name not in found:
            raise MapError(f"this model has no graft {name!r}; {suggest(name, found)}")
    chosen = found if names is None else {name: found[name] for name in names}
    handles = [module.register_forward_hook(lambda _m, inputs, _o: inputs[0]) for module in chosen.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _required(model: nn.Module) -> dict[str, nn.Module]:
    found = grafts(model)
    if not found:
        raise MapError(f"{type(model).__name__} carries no graft, so there is none to measure or to leave out")
    return found
