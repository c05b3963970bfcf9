"""The blog way: model YAMLs whose rows name our mechanisms, with the arguments that circulate or with none.

A row ``[-1, 1, MHSA, [14, 14, 4]]`` becomes a `Row` that the host builds as it builds any layer. The host hands it the
live channel list, so a row never needs a width; a leading width, as many posts write it, is recognised and dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from attngraft._core.errors import OptionError
from attngraft._core.registry import Mechanism, fitted, mechanisms
from attngraft.yolo.recipe import GraftSpec, parse_grafts

GUARD = "Attngraft"
"""Name of the row that carries grafts in a YAML file; without attngraft the host stops at it with a KeyError."""

PREFIX = "attngraft."
YAML_KEY = "attngraft"
"""Top-level key of the model's YAML that holds the grafts, in every checkpoint."""

# What the host resolves among its own local variables when it reads a row.
HOST_VARIABLES = ["ch", "f", "width", "max_channels"]
NARROWEST = 16
"""A leading number below this is never read as a width."""


class Row(nn.Module):
    """Builds the mechanism that a YAML row names; calling it gives the mechanism itself.

    Args:
        widths: The host's list of channels so far.
        source: Index of the layer that the row reads.
        multiple: The host's width multiple.
        widest: The host's cap on channels before the multiple.
        values: The row's own arguments; a mapping at the end gives options by name.
    """

    record: Mechanism

    def __new__(cls, widths: list[int], source: int, multiple: float, widest: float, values: list[Any]) -> Any:
        """Return the mechanism."""
        name = cls.record.cls.__name__
        channels = widths[source]
        named: dict[str, Any] = dict(values[-1]) if values and isinstance(values[-1], Mapping) else {}
        positional = list(values[: len(values) - bool(named)])
        if positional and _is_width(positional[0], channels, multiple, widest):
            positional = positional[1:]
        options = {**_from_row(cls.record, channels, positional), **named}
        unknown = set(options) - set(cls.record.options)
        if unknown:
            raise OptionError(
                f"a {name} row has no option {', '.join(unknown)}; there are: {', '.join(cls.record.options)}"
            )
        module_class: Any = cls.record.cls
        return module_class(channels, **{**fitted(module_class, channels), **options})


def row_classes() -> dict[str, type[Row]]:
    """Return a `Row` class for each mechanism, by the name under which the host finds it."""
    return {
        PREFIX + record.cls.__name__: type(record.cls.__name__, (Row,), {"record": record, "__module__": "attngraft"})
        for record in mechanisms().values()
    }


def rewrite(rows: list[list[Any]], host_names: Mapping[str, Any]) -> list[list[Any]]:
    """Turn rows that name a mechanism into rows that the host can build.

    A name that the host has itself keeps the host's meaning; ``attngraft.NAME`` always means ours.

    Args:
        rows: Rows ``[from, repeats, module, arguments]``.
        host_names: Names that the host resolves itself.

    Raises:
        OptionError: If such a row reads more than one layer.
    """
    ours = {record.cls.__name__ for record in mechanisms().values()}
    rewritten = []
    for source, repeats, name, arguments in rows:
        plain = name.removeprefix(PREFIX)
        if plain in ours and (name != plain or plain not in host_names):
            if not isinstance(source, int):
                raise OptionError(f"a {plain} row reads one layer, got from={source}; use a single index such as -1")
            rewritten.append([source, repeats, PREFIX + plain, [*HOST_VARIABLES, list(arguments)]])
        else:
            rewritten.append([source, repeats, name, arguments])
    return rewritten


def take_grafts(model_yaml: dict[str, Any]) -> tuple[GraftSpec, ...]:
    """Take the grafts out of a model's YAML: the guard rows and the key, in this order.

    Args:
        model_yaml: The parsed YAML; its guard rows and its key are removed.
    """
    guards = [row for row in model_yaml["head"] if row[2] == GUARD]
    model_yaml["head"] = [row for row in model_yaml["head"] if row[2] != GUARD]
    texts = [text for row in guards for text in row[3]]
    if model_yaml.get(YAML_KEY):
        texts.append(model_yaml[YAML_KEY])
    model_yaml.pop(YAML_KEY, None)
    return tuple(spec for text in texts for spec in parse_grafts(text))


def _is_width(value: Any, channels: int, multiple: float, widest: float) -> bool:
    """Tell whether a row's first number is a width: the layer's own, or the YAML's before scaling."""
    if isinstance(value, bool) or not isinstance(value, int) or value < NARROWEST:
        return False
    scaled = -(-min(value, widest) * multiple // 8) * 8
    return channels in (value, scaled)


def _from_row(record: Mechanism, channels: int, values: list[Any]) -> dict[str, Any]:
    """Name a row's positional arguments; a module of the user's own names them in the order of its signature."""
    own: Any = getattr(record.cls, "from_row", None)
    return own(channels, *values) if own else dict(zip(record.options, values, strict=False))
