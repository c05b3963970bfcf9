"""Checks that every mechanism makes of what it is given, with one manner of speaking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from attngraft._core.errors import DtypeError, OptionError, ShapeError, suggest

Layer = TypeVar("Layer", bound=nn.Module)


def positive(who: str, **options: int) -> None:
    """Require positive integers.

    Args:
        who: The module that is being built.
        **options: Option names and their values.

    Raises:
        OptionError: If one is not an ``int`` or is below 1.
    """
    _integers(who, options, 1, "a positive integer")


def not_negative(who: str, **options: int) -> None:
    """Require integers of 0 or more.

    Args:
        who: The module that is being built.
        **options: Option names and their values.

    Raises:
        OptionError: If one is not an ``int`` or is below 0.
    """
    _integers(who, options, 0, "an integer of 0 or more")


def _integers(who: str, options: Mapping[str, Any], least: int, words: str) -> None:
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise OptionError(f"{who} needs {name} to be {words}, got {value!r}")


def above_zero(who: str, **options: float) -> None:
    """Require numbers above zero.

    Args:
        who: The module that is being built.
        **options: Option names and their values.

    Raises:
        OptionError: If one is zero or below.
    """
    for name, value in options.items():
        if not value > 0:
            raise OptionError(f"{who} needs {name} to be above 0, got {value!r}")


def divides(who: str, option: str, value: int, channels: int) -> None:
    """Require that ``channels`` can be cut into ``value`` equal parts.

    Args:
        who: The module that is being built.
        option: Name of the option that holds ``value``.
        value: The number of parts.
        channels: The number of channels.

    Raises:
        OptionError: If it cannot; names the nearest values that can.
    """
    positive(who, channels=channels, **{option: value})
    if channels % value:
        raise OptionError(
            f"{who} needs channels divisible by {option}, got channels={channels} and {option}={value}; "
            f"{option} could be {nearest_divisors(channels, value)}"
        )


def multiple_of(who: str, factor: int, channels: int) -> None:
    """Require ``channels`` to be a multiple of a number that the mechanism fixes.

    Args:
        who: The module that is being built.
        factor: The number.
        channels: The number of channels.

    Raises:
        OptionError: If it is not; names both neighbours that are.
    """
    positive(who, channels=channels)
    below = channels // factor * factor
    if below != channels:
        nearest = f"{below} or {below + factor}" if below else f"{factor}"
        raise OptionError(f"{who} needs channels to be a multiple of {factor}, got {channels}; use {nearest}")


def nearest_divisors(channels: int, value: int) -> str:
    """Name the divisors of ``channels`` just below and just above ``value``.

    Example:
        >>> nearest_divisors(64, 6)
        '4 or 8'
        >>> nearest_divisors(7, 9)
        '7'
    """
    below = [n for n in range(1, min(value, channels) + 1) if channels % n == 0][-1:]
    above = [n for n in range(value, channels + 1) if channels % n == 0][:1]
    return " or ".join(str(n) for n in dict.fromkeys(below + above))


def largest_divisor(channels: int, limit: int) -> int:
    """Return the largest divisor of ``channels`` that is at most ``limit``.

    Example:
        >>> largest_divisor(48, 32)
        24
    """
    return next(n for n in range(min(limit, channels), 0, -1) if channels % n == 0)


def odd(who: str, **options: int) -> None:
    """Require odd integers, such as kernel sizes that keep a map's size.

    Args:
        who: The module that is being built.
        **options: Option names and their values.

    Raises:
        OptionError: If one is even; names both neighbours.
    """
    positive(who, **options)
    for name, value in options.items():
        if value % 2 == 0:
            raise OptionError(
                f"{who} needs an odd {name} to keep the map's size, got {value}; use {value - 1} or {value + 1}"
            )


def one_of(who: str, option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Require one of a few words.

    Args:
        who: The module that is being built.
        option: Name of the option.
        value: What came.
        allowed: The words there are.

    Raises:
        OptionError: If ``value`` is none of them.
    """
    if value not in allowed:
        raise OptionError(f"{who} needs {option} to be one of {', '.join(map(repr, allowed))}, got {value!r}")


def known_options(who: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Require options that there are.

    Args:
        who: What is being built.
        options: Names of the options that came.
        known: The names there are.

    Raises:
        OptionError: If one is unknown; names the nearest.
    """
    known = sorted(known)
    for name in options:
        if name not in known:
            raise OptionError(f"{who} has no option {name!r}; {suggest(name, known)}")


def is_tracing() -> bool:
    """Tell whether a graph is being traced for export, where sizes are symbols and not numbers."""
    return torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call, no-any-return, unused-ignore]


def is_transformed() -> bool:
    """Tell whether a transform of `torch.func` runs, such as ``grad``, or forward mode: neither takes our functions."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_as_built(layer: nn.Module, kind: type[Layer]) -> TypeGuard[Layer]:
    """Tell whether calling a layer does what its weights say, so that they may be read in place of the call.

    They may not where the layer is pruned, hooked, parametrised, quantised or wrapped by an adapter such as LoRA: what
    was added acts only in the call, and reading past it would drop it without a word.

    Args:
        layer: The child of a mechanism.
        kind: The class that the mechanism built.
    """
    added = (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_pre_hooks, layer._backward_hooks)
    return type(layer) is kind and "forward" not in layer.__dict__ and not any(len(hooks) for hooks in added)


def feature_map(module: nn.Module, channels: int, x: Tensor) -> None:
    """Require a floating-point map ``(B, channels, H, W)`` with no empty axis, of the module's own type.

    Skipped while a graph is being traced for export: the sizes are symbols there, and the traced input was checked
    by the ordinary call before it.

    Args:
        module: The module that was called.
        channels: The channel count it was built for.
        x: What it was given.

    Raises:
        ShapeError: If the rank, the channel count or a size is wrong.
        DtypeError: If ``x`` is not floating point, or its type is not that of the weights (outside autocast).
    """
    if is_tracing():
        return
    who = type(module).__name__
    if x.dim() != 4:
        raise ShapeError(who, f"a map (B, {channels}, H, W)", x.shape, "add or drop an axis")
    if x.shape[1] != channels:
        raise ShapeError(
            who, f"{channels} channels (B, {channels}, H, W)", x.shape, f"build it with channels={x.shape[1]}"
        )
    if x.numel() == 0:
        way_out = "it was pooled away: raise the image size" if x.shape[0] else "leave out batches without images"
        raise ShapeError(who, "a map with no empty axis", x.shape, way_out)
    if not x.is_floating_point():
        raise DtypeError(f"{who} expects floating-point values, got {x.dtype}; call .float() on the map")
    weight = _some_parameter(module)
    if weight is not None and weight.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
        raise DtypeError(
            f"{who} has {weight.dtype} weights and got a {x.dtype} map; convert one, or use torch.autocast"
        )


def _some_parameter(module: nn.Module) -> nn.Parameter | None:
    """Return one parameter of a module, if it has any: the check runs at every call, and `parameters` takes 4 us."""
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for child in module._modules.values():
        found = None if child is None else _some_parameter(child)
        if found is not None:
            return found
    return None
