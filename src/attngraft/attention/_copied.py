"""What a pickled copy of a mechanism holds besides parts and tensors: settings that its own code, in no file, reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

WITHOUT_EFFECT = ("training", "inplace", "bias")
"""Switches that are on and change no number, or that the tensors tell."""


def telling(state: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """Name the attributes by which a copied class may compute something else than the form it is taken for.

    These are factors, switches that are on, such as ``residual = True``, and functions and tensors that no part holds.
    Integers are sizes that the tensors have too, and a switch that is off adds nothing.

    Args:
        state: The pickled ``__dict__`` of an instance.
        known: Attributes of the form itself.
    """
    below = [part for child in state["_modules"].values() if child is not None for part in child.modules()]
    own = [state, *(vars(part) for part in below if not type(part).__module__.startswith("torch."))]
    return [
        name
        for attributes in own
        for name, value in attributes.items()
        if not name.startswith("_") and name not in {*WITHOUT_EFFECT, *known} and _tells(value)
    ]


def _tells(value: Any) -> bool:
    if value is True or isinstance(value, (float, Tensor)):
        return True
    return callable(value) and not isinstance(value, type)
