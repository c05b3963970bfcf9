"""What every mechanism of the zoo is: a module that keeps the shape of a map, and can be fitted to any width."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core import opsets
from attngraft._core.annotations import annotated_options
from attngraft._core.checks import feature_map
from attngraft._core.errors import OptionError
from attngraft._core.registry import mechanism_of

opsets.install()  # whatever exports a mechanism, the command or torch.onnx itself


def _anywhere(init: Callable[..., None]) -> Callable[..., None]:
    """Let a constructor take ``device`` and ``dtype``, and check its options; its signature stays as it is."""

    @wraps(init)
    def build(
        self: nn.Module, *args: Any, device: Any = None, dtype: torch.dtype | None = None, **options: Any
    ) -> None:
        annotated_options(type(self).__name__, init, args, options)
        with nullcontext() if device is None else torch.device(device):
            init(self, *args, **options)
        if dtype is not None:
            self.to(dtype)

    return build


class Attention(nn.Module):
    """Base of the zoo's modules.

    A subclass takes ``channels`` first and keywords after, keeps every option under an attribute of the same name, and
    maps ``(B, C, H, W)`` to the same shape for any ``H`` and ``W`` from 1 up. As PyTorch's own modules do, it can be
    built with ``device`` and ``dtype``: timm gives both to whatever is its ``attn_layer``.

    An option whose annotation is plain is checked against it before the constructor runs
    (`attngraft._core.annotations`); an option of another type is an `OptionError`.

    Args:
        channels: Number of channels C of the map.
    """

    @_anywhere
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a subclass be built with ``device``, ``dtype`` and checked options; its constructor need not know."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _anywhere(cls.__init__)  # type: ignore[method-assign]

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Return the options to change from their defaults so that the mechanism works at this width.

        The graft calls it for options that its user left alone, and says what it changed. The default implementation
        changes nothing.
        """
        return {}

    @classmethod
    def from_row(cls, channels: int, *values: Any) -> dict[str, Any]:
        """Name the values of a YAML row as they circulate, such as ``[14, 14, 4]``.

        Args:
            channels: Number of channels C, which Ultralytics adds.
            *values: The row's values, in the order of the record's ``row``.

        Returns:
            The options they stand for.

        Raises:
            OptionError: If there are more values than the row has names.
        """
        names = mechanism_of(cls).row
        if len(values) > len(names):
            takes = f"[{', '.join(names)}]" if names else "no values"
            raise OptionError(f"a row of {cls.__name__} takes {takes}, got {list(values)}; leave the channels out")
        return dict(zip(names, values, strict=False))

    def reset_parameters(self) -> None:
        """Re-initialize: take the parameters and buffers of another instance with the same options.

        What no longer has the form in which it is built, such as a pruned layer, stays.
        """
        record = mechanism_of(type(self))
        fresh = record.cls(self.channels, **{name: getattr(self, name) for name in record.options})
        held = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        with torch.no_grad():
            for name, value in (*fresh.named_parameters(), *fresh.named_buffers()):
                if name in held and held[name].shape == value.shape:
                    held[name].copy_(value)

    def check(self, x: Tensor) -> None:
        """Raise a `ShapeError` or `DtypeError` unless ``x`` is a map this module can take."""
        feature_map(self, self.channels, x)

    def gated(self, x: Tensor) -> Tensor:
        """Return what the mechanism's ``gate_map(x)`` multiplies, where it has one: its input, unless it says so."""
        return x

    def macs(self, height: int, width: int) -> int:
        """Count the multiply-adds of one image from the closed form in the mechanism's record.

        Counted are convolutions, linear layers and matrix products, as `torch.utils.flop_counter` does; elementwise
        work is not.

        Args:
            height: Rows of the map, H.
            width: Columns of the map, W.
        """
        import sympy  # slow to import, and only needed here

        sizes = {"C": self.channels, "H": height, "W": width, "N": height * width}
        cost = mechanism_of(type(self)).cost
        named = {name: getattr(self, name, None) for name in re.findall(r"[a-z]\w*", cost)}
        attributes = {name: value for name, value in named.items() if isinstance(value, (int, float))}
        return int(sympy.sympify(cost, locals={**attributes, **sizes}))

    def extra_repr(self) -> str:
        """Name the options in ``print(module)``."""
        options = mechanism_of(type(self)).options
        return ", ".join([str(self.channels), *(f"{name}={getattr(self, name)!r}" for name in options)])
