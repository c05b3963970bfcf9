"""Which modules of a network give the maps that its head, or a pyramid on it, reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attngraft.models._stages import Stages

PROBE = 64
"""Side of the image on which a network shows which of its modules give maps."""


def stages(body: nn.Module) -> list[str]:
    """Return the paths of the modules that give a body's stage maps, from fine to coarse.

    Of a body whose stages cannot be read: of all modules that give a map of more than one cell, in their order.

    Args:
        body: What takes images.
    """
    if not isinstance(body, Stages):
        return list(dict.fromkeys(name for name, _ in _given(body, body)[0]))
    features: Callable[[Tensor], list[Tensor]] = body.forward_features
    given, wanted = _given(body, features)
    return [_outermost(given, one) for one in wanted]


def last_map(network: nn.Module) -> str:
    """Return the path of the module that gives the last map of more than one cell: what a classifier pools.

    A map right before a normalization of each cell would not do: gradient times activation is zero there.

    Args:
        network: What takes images.
    """
    given, _ = _given(network, network)
    return _outermost(given, given[-1][1]) if given else ""


def _outermost(given: Sequence[tuple[str, Tensor]], wanted: Tensor) -> str:
    """Return the path of the outermost of the modules that gave one map."""
    return min((name for name, out in given if out is wanted), key=lambda name: name.count("."), default="")


@torch.no_grad()
def _given(body: nn.Module, run: Callable[[Tensor], Any]) -> tuple[list[tuple[str, Tensor]], Any]:
    """Return every map of more than one cell with the module that gave it, in their order, and what a run returns."""
    given: list[tuple[str, Tensor]] = []

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if name and isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
                given.append((name, output))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in body.named_modules()]
    try:
        result = run(next(body.parameters()).new_zeros(1, 3, PROBE, PROBE))
    finally:
        for handle in handles:
            handle.remove()
    return given, result
