"""What the arguments of a YAML row mean: the whole row is judged, since a width is easily read as an option.

Copied classes take one or two widths before their options, and their options in an order of their own. A row is read
by the first of these ways in which every value is plausible for its option at the width of the map:

1. as it stands, where its first two values are the sides of a map and small enough for any, as in ``[64, 64, 4]``;
2. without leading values that are this map's width, in the order of the copied classes or of the record's ``row``;
3. as it stands, in the order of the record's ``row`` or of the copied classes;
4. without leading values that look like a width of another map, with a warning that names them.

A row in the form of a copied class takes that class's defaults for what it leaves out (``alias_defaults``): one with a
width, in that class's own order, or with any value under a name that only the copied class has. ``[]``, and options
alone under our own names, take ours.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from attngraft._core.errors import OptionError
from attngraft._core.registry import Disputed, Mechanism

NARROWEST = 16
"""A leading number below this is never read as the map's own width."""

WIDE = 64
"""From this on a multiple of 8 looks like the width of some map, and like no reduction, head or kernel."""

MOST_WIDTHS = 2
"""Copied classes take one width, or one coming in and one going out."""

MAP_SIDES = ("width", "height")
"""Of the map, as the widely copied MHSA takes them."""

USUAL_SIDE = 80
"""Cells of a side of P3 at 640 pixels: up to it two numbers are the map's sides, though it be as wide."""

LARGEST_SIDE = 320
"""Cells of a side of the largest map that a row may name."""

IGNORED = "_"
"""Stands in a signature for an argument that ours does not have."""

OWN_WIDTH = "channels"
"""Stands in a signature for an inner width, which ours takes from the map."""

STRIDE = "stride"
"""Stands in a signature for a stride, which ours has not: only 1 is read."""

HEAD_WIDTH = "head_width"
"""Stands in a signature for the width of a head, which ours takes from the map and the number of heads."""

OFF = "off"
"""Stands in a signature for a switch that ours has not: only False is read."""

LEFT_OUT = (IGNORED, OWN_WIDTH, STRIDE, HEAD_WIDTH, OFF)

SLIMMEST = 3
"""Two lone numbers of which one is as many times the other, as in ``[20, 4]``, are no sides of one map."""

FEWEST_CELLS = 9
"""A lone number below this counts heads, and is no side of a map."""

Signatures = tuple[tuple[str, ...], ...]

_T = TypeVar("_T")

log = logging.getLogger("ultralytics")


@dataclass(frozen=True)
class Widths:
    """The width of a map, and how Ultralytics scales what a YAML says.

    Attributes:
        channels: Channels of the map.
        multiple: Ultralytics' width multiple.
        widest: Its cap on channels before the multiple.
    """

    channels: int
    multiple: float = 1.0
    widest: float = float("inf")

    def are(self, value: Any) -> bool:
        """Tell whether a value is the map's own width, as it is or before scaling."""
        if not _is_integer(value) or value < NARROWEST:
            return False
        return self.channels in (value, -(-min(value, self.widest) * self.multiple // 8) * 8)


def read_row(record: Mechanism, widths: Widths, values: Sequence[Any], called: str = "") -> dict[str, Any]:
    """Name the options that a row gives.

    Args:
        record: The mechanism.
        widths: Of the map that the row reads.
        values: The row's arguments; a mapping at the end gives options by name, and None leaves an option out.
        called: The name by which the row calls the mechanism: classes that circulate differ in their arguments.

    Raises:
        OptionError: If there is no such option, or no way to read the values.
    """
    named: dict[str, Any] = dict(values[-1]) if values and isinstance(values[-1], Mapping) else {}
    positional = [_evaluated(value) for value in values[: len(values) - bool(named)]]
    read, is_copied = _read(record, widths, positional, called)
    options = {**read, **named}
    if is_copied:
        warn_of_disputes(record, (called,), options)
        options = {**copied_defaults(record, (called,), widths.channels, options), **options}
    unknown = set(options) - set(record.options)
    if unknown:
        who = record.cls.__name__
        raise OptionError(
            f"a row of {who} has no option {', '.join(map(str, unknown))}; there are: {', '.join(record.options)}"
        )
    return options


def copied_defaults(
    record: Mechanism, called: Iterable[str], channels: int, given: Collection[str] = ()
) -> dict[str, Any]:
    """Return what a copied class takes for options left out, where that is not our default.

    Args:
        record: The mechanism.
        called: Names of the class, the one that decides first.
        channels: Channels of the map; what cannot work at that width is left out.
        given: Options that are not left out.
    """
    _, values = _copied_values(record, called)
    left = {option: value for option, value in values.items() if option not in given}
    known = {option: value for option, value in left.items() if not isinstance(value, Disputed)}
    found = {option: value(channels) if callable(value) else value for option, value in known.items()}
    return {key: value for key, value in found.items() if _is_plausible(record, key, value, channels, lone=False)}


def warn_of_disputes(record: Mechanism, called: Iterable[str], given: Collection[str]) -> None:
    """Warn of options left out for which copies of a class take different values, so that ours is taken.

    Args:
        record: The mechanism.
        called: Names of the class, the one that decides first.
        given: Options that are not left out.
    """
    name, values = _copied_values(record, called)
    for option, value in values.items():
        if isinstance(value, Disputed) and option not in given:
            known = [str(list(one) if isinstance(one, tuple) else one) for one in value.values]
            log.warning(
                f"attngraft: copies of {name} take {' or '.join(known)} for {option} where it is left out{value.note}; "
                f"the default of {record.cls.__name__} is taken. To choose, give it by name at the end of the row: "
                f"[..., {{{option}: {known[0]}}}]"
            )


def _copied_values(record: Mechanism, called: Iterable[str]) -> tuple[str, Mapping[str, Any]]:
    """Return the first name of a copied class that has defaults of its own, and these."""
    return next(((name, own) for name in called if (own := _by_name(record.alias_defaults, name))), ("", {}))


def _by_name(table: Mapping[str, _T], called: str) -> _T | None:
    """Return the entry of a name, or of one that is only spelled otherwise."""
    return table.get(called) or next((own for name, own in table.items() if spelled(name) == spelled(called)), None)


def spelled(name: str) -> str:
    """Return a name without what its copies differ in: capitals and underscores."""
    return name.replace("_", "").lower()


def _signatures(record: Mechanism, called: str) -> Signatures:
    """Return the orders in which the class of that name takes its arguments."""
    own = _by_name(record.alias_signatures, called)
    return record.signatures if own is None else own


def _is_only_copied(record: Mechanism, called: str) -> bool:
    """Tell whether a row calls a mechanism by a name that only copied classes have."""
    return spelled(called) not in {spelled(record.cls.__name__), spelled(record.name), ""}


def _read(record: Mechanism, widths: Widths, values: list[Any], called: str) -> tuple[dict[str, Any], bool]:
    """Name a row's values, and tell whether it is in the form of a copied class."""
    row, signatures = _row(record), _signatures(record, called)
    only_copied = bool(values) and _is_only_copied(record, called)
    if _are_sides(row, values) and _fits(record, widths.channels, row, values):
        return _named(record, widths.channels, row, values, is_row=True), only_copied
    for leading, own in _ways(widths, values):
        rest = values[leading:]
        copied = [(names, False) for names in signatures]
        ours = [(row, True)]
        if leading == MOST_WIDTHS:  # the second stands where a copied class has an argument that ours has not
            copied = [(names[1:], False) for names in signatures if names[:1] == (IGNORED,)] + copied
        for names, is_row in copied + ours if leading else ours + copied:
            if _fits(record, widths.channels, names, rest):
                _warn(record, widths, values[:leading], own=own)
                named = _named(record, widths.channels, names, rest, is_row=is_row)
                read = {name: _as_switch(record, name, value) for name, value in named.items()}
                return read, bool(leading) or not is_row or only_copied
    raise OptionError(_complaint(record, widths, values, signatures))


def _ways(widths: Widths, values: list[Any]) -> Iterator[tuple[int, bool]]:
    """Yield how many leading values to leave out as widths, and whether they are this map's."""
    own = _leading(values, lambda value: value is None or widths.are(value))
    yield from ((count, True) for count in range(own, -1, -1))
    wide = _leading(values, lambda value: value is None or widths.are(value) or _looks_wide(value))
    yield from ((count, False) for count in range(wide, own, -1))


def _leading(values: list[Any], holds: Callable[[Any], bool]) -> int:
    count = 0
    while count < min(MOST_WIDTHS, len(values)) and holds(values[count]):
        count += 1
    return count


def _fits(record: Mechanism, channels: int, names: Sequence[str], values: list[Any]) -> bool:
    if len(values) > len(names):
        return False
    pairs = list(zip(names, values, strict=False))
    if any(len({str(value) for name, value in pairs if name == twice}) > 1 for twice in names if twice != IGNORED):
        return False
    sides = [value for name, value in pairs if name in MAP_SIDES]
    if len({value is None for value in sides}) > 1 or (len(values) == len(sides) and _are_unlike(sides)):
        return False
    lone = len(values) == 1
    return all(_is_plausible(record, name, value, channels, lone=lone) for name, value in pairs)


def _is_plausible(record: Mechanism, name: str, value: Any, channels: int, *, lone: bool) -> bool:
    """Tell whether a value can be meant for an option; those of mechanisms of the user's own are not known."""
    option = record.options.get(name)
    if value is None or not record.cls.__module__.startswith("attngraft."):
        return True
    if name == IGNORED:
        return not _looks_wide(value)
    if name == OWN_WIDTH:
        return bool(value == channels)
    if name in MAP_SIDES:
        fewest, most = (FEWEST_CELLS, WIDE - 1) if lone else (1, LARGEST_SIDE)
        return _is_integer(value) and fewest <= value <= most
    rule = RULES.get(name)
    if option is None:  # a name that the class translates itself
        return rule is None or rule(value, channels)
    default = option.default
    if value == default and type(value) is type(default):
        return True
    if name == "reduction" and "kernel_size" in record.options and _is_odd(value, channels) and value > 1:
        return False  # the kernel of a copied class that takes no reduction
    if rule is not None:
        return rule(value, channels)
    if isinstance(default, bool):
        return _is_switch(value, channels)
    if isinstance(default, str):
        return isinstance(value, str)
    if isinstance(default, tuple):
        return isinstance(value, (list, tuple))
    return _is_small(value) if _is_integer(default) or _is_integer(value) else isinstance(value, (float, list, tuple))


def _are_sides(names: Sequence[str], values: list[Any]) -> bool:
    """Tell whether a row begins with the sides of a map, such as ``[64, 64, 4]`` where the map is 64 wide besides."""
    sides = values[: len(MAP_SIDES)]
    return (
        tuple(names[: len(MAP_SIDES)]) == MAP_SIDES
        and len(sides) == len(MAP_SIDES)
        and all(_is_integer(side) and NARROWEST <= side <= USUAL_SIDE for side in sides)
    )


def _are_unlike(sides: list[Any]) -> bool:
    return len(sides) > 1 and all(map(_is_integer, sides)) and bool(max(sides) >= SLIMMEST * min(sides))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_small(value: Any) -> bool:
    return _is_integer(value) and 0 <= value < WIDE


def _looks_wide(value: Any) -> bool:
    return _is_integer(value) and value >= WIDE and value % 8 == 0


def _is_odd(value: Any, _channels: int) -> bool:
    return _is_small(value) and value % 2 == 1


def _divides(value: Any, channels: int) -> bool:
    return _is_integer(value) and 1 <= value < WIDE and channels % value == 0


def _divides_or_list(value: Any, channels: int) -> bool:
    return _divides(value, channels) or isinstance(value, (list, tuple))


def _is_reduction(value: Any, channels: int) -> bool:
    return _is_small(value) and 1 <= value <= channels


def _is_switch(value: Any, _channels: int) -> bool:
    return isinstance(value, bool) or (_is_integer(value) and value in (0, 1))


def _is_fraction(value: Any, _channels: int) -> bool:
    return isinstance(value, float) and 0 < value <= 1


RULES: Mapping[str, Callable[[Any, int], bool]] = {
    "kernel_size": _is_odd,
    "side_kernel_size": _is_odd,
    "reduction": _is_reduction,
    "heads": _divides,
    "groups": _divides_or_list,
    "e_lambda": _is_fraction,
    "scale": _is_fraction,
    "pos_emb": _is_switch,
    "local_weight": _is_fraction,
    "key_ratio": _is_fraction,
    "hidden": lambda value, channels: _is_integer(value) and value >= min(channels, WIDE),
    "attended_channels": lambda value, channels: _is_integer(value) and 1 <= value <= channels,
    STRIDE: lambda value, _: _is_integer(value) and value == 1,
    OFF: lambda value, _: _is_switch(value, 0) and not value,
    HEAD_WIDTH: lambda value, _: _is_integer(value) and value >= 1,
    "variant": lambda value, _: value in (5, 7) or isinstance(value, str),  # kernel sizes of copied ELA classes
}
"""What a value has to be to be meant for an option; the mechanism itself requires more."""


def _row(record: Mechanism) -> tuple[str, ...]:
    """Return the names of a row's values; a module of the user's own has them in the order of its signature."""
    return record.row or (() if hasattr(record.cls, "from_row") else tuple(record.options))


def _named(
    record: Mechanism, channels: int, names: Sequence[str], values: list[Any], *, is_row: bool
) -> dict[str, Any]:
    """Name values, with None as an option's default; a class may translate those of its record's row itself."""
    pairs = [(name, value) for name, value in zip(names, values, strict=False) if name not in LEFT_OUT]
    given = {name: value for name, value in pairs if value is not None}
    own: Any = getattr(record.cls, "from_row", None)
    if not is_row or own is None:
        return given
    defaults = {name: option.default for name, option in record.options.items()}
    filled = [defaults.get(name) if value is None else value for name, value in zip(names, values, strict=False)]
    translated: dict[str, Any] = own(channels, *filled)
    return translated


def _as_switch(record: Mechanism, name: str, value: Any) -> Any:
    """Read the 0 and 1 of copied rows as what they say of a switch."""
    option = record.options.get(name)
    is_switch = option is not None and isinstance(option.default, bool) and _is_switch(value, 0)
    return bool(value) if is_switch else value


def _evaluated(value: Any) -> Any:
    """Read a number that YAML takes for text, such as 1e-4, and the word None."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _warn(record: Mechanism, widths: Widths, left_out: list[Any], *, own: bool) -> None:
    others = [str(value) for value in left_out if value is not None and not widths.are(value)]
    if others and not own:
        log.warning(
            f"attngraft: a row of {record.cls.__name__} names the width {' and '.join(others)}, and its map has "
            f"{widths.channels} channels; the width is left out. An option is given by name: [{{option: value}}]"
        )


def _asks_for(name: str, asked: Callable[[Any], bool], widths: Widths, values: list[Any], order: Signatures) -> bool:
    """Tell whether what stands in the place of an argument that ours has not asks for what ours does not do."""
    return any(
        asked(dict(zip(names, values[leading:], strict=False)).get(name))
        for names in order
        for leading, _ in _ways(widths, values)
        if len(values) - leading <= len(names)
    )


def _complaint(record: Mechanism, widths: Widths, values: list[Any], signatures: Signatures) -> str:
    name, takes = record.cls.__name__, ", ".join(_row(record))
    said = f"a row of {name} takes {f'[{takes}]' if takes else 'no values'}, got {values} on a map of "
    said += f"{widths.channels} channels"
    wide = [str(value) for value in values[:MOST_WIDTHS] if _looks_wide(value) and not widths.are(value)]
    said += f"; {' and '.join(wide)} looks like a width" if wide else ""
    if _asks_for(OFF, lambda value: value is True, widths, values, signatures):
        return f"{said}; what a copied class turns on by True there is not built here: write False, or leave it out"
    if _asks_for(STRIDE, lambda value: _is_integer(value) and value > 1, widths, values, signatures):
        instead = f"leave the Conv row, and put [-1, 1, {name}, []] behind it"
        return f"{said}; ours has no stride and keeps the map's size: {instead}"
    by_name = f", or give options by name, as in [{{{next(iter(record.options))}: ...}}]" if record.options else ""
    return f"{said}; write [] for the defaults{by_name}"
