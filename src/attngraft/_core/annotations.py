"""Options held against the annotations of the constructor that takes them: no word is read as a switch that is on."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from attngraft._core.errors import OptionError

WORDS: Mapping[Any, str] = {bool: "True or False", int: "an integer", float: "a finite number", NoneType: "None"}
MANY: Mapping[Any, str] = {bool: "True and False", int: "integers", float: "finite numbers"}


def annotated_options(who: str, init: Callable[..., None], args: Sequence[Any], options: Mapping[str, Any]) -> None:
    """Require options of the types that a constructor is annotated with, where these are plain ones of Python.

    Plain are ``bool``, ``int``, ``float``, ``None``, ``Literal``, and sequences and unions of these. A number stands
    for no switch and a switch for no number. Everything else is passed over: words, on which the constructor has more
    to say, classes, and ``channels``; and all of a constructor that has an annotation which cannot be resolved. A
    default of the constructor's own is never refused.

    Args:
        who: The module that is being built.
        init: Its constructor, a function whose first argument is the module.
        args: What comes by position, without the module.
        options: What comes by name.

    Raises:
        OptionError: If one is of another type.
    """
    plain = _plain(init)
    given = {**dict(zip(_names(init), args, strict=False)), **options}
    for name, (annotation, default) in plain.items():
        value = given.get(name, default)
        if value is not default and not _takes(annotation, value):
            raise OptionError(f"{who} needs {name} to be {_worded(annotation)}, got {value!r}")


@cache
def _names(init: Callable[..., None]) -> tuple[str, ...]:
    """Return the names of a constructor's arguments by position, without the module's own."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(name for name, one in inspect.signature(init).parameters.items() if one.kind in by_position)[1:]


@cache
def _plain(init: Callable[..., None]) -> Mapping[str, tuple[Any, Any]]:
    """Return annotation and default of each option, resolved when a module is built: names may be defined later."""
    try:
        hints = get_type_hints(init)
    except Exception:  # noqa: BLE001  # a user's annotation is any text, and what it raises says nothing of the module
        return {}
    single = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(init).parameters.values()
    return {
        one.name: (hints[one.name], one.default)
        for one in parameters
        if one.name in hints and one.name != "channels" and one.kind in single
    }


def _takes(annotation: Any, value: Any) -> bool:
    if annotation is bool or annotation is NoneType:
        return isinstance(value, annotation)
    if annotation is int or annotation is float:
        number = Integral if annotation is int else Real  # NumPy's, too
        return isinstance(value, number) and not isinstance(value, bool) and _is_finite(value)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(_takes(part, value) for part in parts)
    if origin is Literal:
        return value in parts
    if origin in (tuple, list, Sequence):
        if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
            return str in parts
        each = parts[:1] * len(value) if origin is not tuple or parts[1:] == (...,) else parts
        return all(_takes(part, one) for part, one in zip(each, value, strict=False))  # the length is the module's
    return True


def _is_finite(value: Any) -> bool:
    return isinstance(value, Integral) or math.isfinite(value)  # integers may be beyond what a float holds


def _worded(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return ", or ".join(map(_worded, parts))
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    return WORDS[annotation] if annotation in WORDS else f"a list of {MANY.get(next(iter(parts), None), 'values')}"
