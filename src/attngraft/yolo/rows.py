"""The blog way: model YAMLs whose rows name our mechanisms, with the names and arguments that circulate or with none.

A row ``[-1, 1, MHSA, [14, 14, 4]]`` becomes a `Row` that Ultralytics builds as it builds any layer, and hands the
live channel list, so a row never needs a width (`attngraft.yolo.arguments`). A row ``[-1, 3, C2f_EMA, [128, True]]``
becomes Ultralytics' block; the mechanism is put inside when it is built (`attngraft.yolo.joining.join_blocks`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from attngraft._core.checks import known_options
from attngraft._core.errors import ModelYamlError, OptionError, suggest
from attngraft._core.registry import REFUSED, Mechanism, fitted, mechanisms
from attngraft.yolo.arguments import Widths, read_row, spelled
from attngraft.yolo.recipe import GraftSpec, parse_grafts

GUARD = "Attngraft"
"""Name of the row that carries grafts in a YAML file; without attngraft Ultralytics stops at it with a KeyError."""

PREFIX = "attngraft."
YAML_KEY = "attngraft"
"""Top-level key of the model's YAML that holds the grafts, in every checkpoint."""

# What Ultralytics resolves among its own local variables when it reads a row.
HOST_VARIABLES = ["ch", "f", "width", "max_channels"]

PSA_BLOCK = "C2PSA"
"""Block of Ultralytics from which the copied classes ``C2TSSA`` and ``C2BRA`` derive."""

INSTEAD = ("rfa", "rfcbam")
"""Mechanisms that stand in the place of a convolution, in copied blocks too."""

ENDINGS = re.compile(r"(attention|block|layer|module)+\Z")
"""What copied classes append to the name of a mechanism."""

PLUGIN_HINT = "a class of your own is given with: attngraft --plugin FILE.py ..."


class RowValues(list[Any]):
    """The values of a row, which Ultralytics prints as they were read: ``[256, heads=4, size=(14, 14)]``.

    Args:
        values: The values.
        called: The name by which the row calls the mechanism.
    """

    read: str = ""

    def __init__(self, values: Iterable[Any], called: str = "") -> None:
        super().__init__(values)
        self.called = called

    def __repr__(self) -> str:
        return self.read or super().__repr__()


class RowArguments(list[Any]):
    """What Ultralytics hands a `Row`; of it only the row's own values, which come last, are printed."""

    def __repr__(self) -> str:
        return repr(self[-1])


class Row(nn.Module):
    """Builds the mechanism that a YAML row names; calling it gives the mechanism itself.

    Args:
        widths: Ultralytics' list of channels so far.
        source: Index of the layer that the row reads.
        multiple: Ultralytics' width multiple.
        widest: Ultralytics' cap on channels before the multiple.
        values: The row's own arguments; a mapping at the end gives options by name.
    """

    record: Mechanism

    def __new__(cls, widths: list[int], source: int, multiple: float, widest: float, values: list[Any]) -> Any:
        """Return the mechanism."""
        channels = widths[source]
        called = values.called if isinstance(values, RowValues) else ""
        options = read_row(cls.record, Widths(channels, multiple, widest), values, called)
        module_class: Any = cls.record.cls
        if isinstance(values, RowValues):
            values.read = f"[{', '.join([str(channels), *(f'{key}={value}' for key, value in options.items())])}]"
        return module_class(channels, **{**fitted(module_class, channels), **options})


@dataclass(frozen=True)
class BlockRow:
    """A block of Ultralytics' with a mechanism inside, as in ``C2f_EMA``.

    Attributes:
        index: Of the layer.
        name: As the row gives it.
        record: The mechanism.
        called: Names of the copied classes whose defaults it takes, the nearest first.
        options: Its options, from a mapping at the end of the row.
    """

    index: int
    name: str
    record: Mechanism
    called: tuple[str, ...]
    options: Mapping[str, Any]


def row_classes() -> dict[str, type[Row]]:
    """Return a `Row` class for each mechanism, by the name under which Ultralytics finds it."""
    return {
        PREFIX + record.cls.__name__: type(record.cls.__name__, (Row,), {"record": record, "__module__": "attngraft"})
        for record in mechanisms().values()
    }


def rewrite(
    rows: list[list[Any]], host_names: Mapping[str, Any], first: int = 0
) -> tuple[list[list[Any]], list[BlockRow]]:
    """Turn rows that name a mechanism into rows that Ultralytics can build.

    A name that Ultralytics has itself keeps Ultralytics' meaning; ``attngraft.NAME`` always means ours.

    Args:
        rows: Rows ``[from, repeats, module, arguments]``.
        host_names: Names that Ultralytics resolves itself.
        first: Index of the first layer.

    Returns:
        The rows for Ultralytics, and the blocks into which a mechanism goes.

    Raises:
        OptionError: If a row of ours reads more than one layer.
        ModelYamlError: If a row names a module that neither has.
    """
    rewritten, blocks = [], []
    for index, (source, repeats, name, arguments) in enumerate(rows, first):
        plain = name.removeprefix(PREFIX)
        if plain == name and _is_the_hosts(name, host_names):
            rewritten.append([source, repeats, name, arguments])
        elif record := by_row_name(plain):
            (one, *more) = source if isinstance(source, list) else [source]
            if more:
                raise OptionError(f"row {index} ({plain}) reads one layer, got from={source}; use one index such as -1")
            renamed = PREFIX + record.cls.__name__
            rewritten.append([one, repeats, renamed, RowArguments([*HOST_VARIABLES, RowValues(arguments, plain)])])
        elif split := split_block(plain, host_names):
            block, record, called = split
            if record.name in INSTEAD:
                raise OptionError(
                    f"row {index} ({plain}): copies have {record.cls.__name__} in the place of the last convolution of "
                    f"each bottleneck of {block}, and attngraft puts it behind; write {block} and the graft "
                    f"{record.name}@{index}.bottlenecks for that, or {PLUGIN_HINT}"
                )
            own = dict(arguments[-1]) if arguments and isinstance(arguments[-1], Mapping) else {}
            known_options(f"a row of {plain}", own, record.options)
            given = [value for value in arguments[: len(arguments) - bool(own)] if not _is_map_size(value)]
            if said := _not_the_blocks(host_names[block], given):
                by_name = f"[{given[0]}, {{{next(iter(record.options))}: ...}}]" if record.options else f"[{given[0]}]"
                raise OptionError(
                    f"row {index} ({plain}) {said}; options of {record.cls.__name__} follow by name, as in {by_name}"
                )
            blocks.append(BlockRow(index, plain, record, called, own))
            rewritten.append([source, repeats, block, given])
        elif name in host_names:  # ours under its full name: the backbone
            rewritten.append([source, repeats, name, arguments])
        else:
            raise ModelYamlError(_unknown(index, name, host_names))
    return rewritten, blocks


def as_grafts(model_yaml: Mapping[str, Any], host_names: Mapping[str, Any]) -> tuple[list[str], str]:
    """Name the rows of a model that are mechanisms of ours, and the grafts that stand for them on the model without.

    Args:
        model_yaml: The parsed YAML.
        host_names: Names that Ultralytics resolves itself.

    Returns:
        The rows, such as ``11 (MHSA)``, and the grafts, such as ``mhsa@10``; the place is the layer's index without
        these rows.
    """
    names: list[str] = []
    grafts: list[str] = []
    without: list[int] = []
    rows = [row for part in ("backbone", "head") for row in model_yaml[part] if row[2] != GUARD]
    for index, (source, _, name, _) in enumerate(rows):
        plain = name.removeprefix(PREFIX)
        record = None if plain == name and _is_the_hosts(name, host_names) else by_row_name(plain)
        if record is None:
            without.append(index - len(names))
            continue
        one = source[0] if isinstance(source, list) else source
        without.append(without[one] if index else 0)
        names.append(f"{index} ({plain})")
        grafts.append(f"{record.name}@{without[-1]}")
    return names, "+".join(grafts)


def by_row_name(name: str) -> Mechanism | None:
    """Return the mechanism that a row's class name stands for: its own, one that circulates, or the registry's.

    A name that is none of these may be spelled otherwise: ``SE_Block`` for ``SEBlock``, ``ECA_layer`` for ``ECALayer``.
    """
    table = mechanisms().values()
    own = next((record for record in table if record.cls.__name__ == name), None)
    exact = own or next((record for record in table if name in (record.name, *record.aliases)), None)
    return exact or next((record for record in table if spelled(name) in map(spelled, _names(record))), None)


def split_block(name: str, host_names: Mapping[str, Any]) -> tuple[str, Mechanism, tuple[str, ...]] | None:
    """Split the name of a block with a mechanism inside, such as ``C3k2_EMA`` or ``C2fEMA``.

    Args:
        name: As a row gives it.
        host_names: Names that Ultralytics resolves itself.

    Returns:
        Ultralytics' block, the mechanism, and the names of the copied classes that it may be; None where it is no such
        name.
    """
    copied = name.removeprefix(PSA_BLOCK).strip("_") if name.startswith(PSA_BLOCK) else name.removeprefix("C2")
    if name.startswith("C2") and copied[:1].isupper() and PSA_BLOCK in host_names:
        record = by_row_name(copied) or _by_initials(copied)
        if record is not None:
            return PSA_BLOCK, record, (f"C2{copied}", f"Bottleneck_{copied}", copied)
    blocks = [block for block in _modules(host_names) if name.startswith(block) and name != block]
    for block in sorted(blocks, key=len, reverse=True):
        copied = name.removeprefix(block).strip("_")
        record = by_row_name(copied)
        if record is not None:
            return block, record, (f"Bottleneck_{copied}", copied)
    return None


def take_grafts(model_yaml: dict[str, Any]) -> tuple[GraftSpec, ...]:
    """Take the grafts out of a model's YAML: the guard rows and the key, in this order.

    Args:
        model_yaml: The parsed YAML; its guard rows and its key are removed.

    Raises:
        ModelYamlError: If they are no text.
    """
    guards = [row for row in model_yaml["head"] if row[2] == GUARD]
    model_yaml["head"] = [row for row in model_yaml["head"] if row[2] != GUARD]
    texts = [text for row in guards for text in row[3]]
    if model_yaml.get(YAML_KEY):
        texts.append(model_yaml[YAML_KEY])
    model_yaml.pop(YAML_KEY, None)
    if other := [text for text in texts if not isinstance(text, str)]:
        raise ModelYamlError(f"grafts are given in text, such as mhsa@P5+ema@P4, got {other[0]!r}")
    return tuple(spec for text in texts for spec in parse_grafts(text))


def _by_initials(word: str) -> Mechanism | None:
    """Return the only mechanism with a name whose capitals are a word: ``CGA`` is CascadedGroupAttention."""
    found = [record for record in mechanisms().values() if word in map(_initials, _names(record))]
    return found[0] if len(found) == 1 else None


def _initials(name: str) -> str:
    return "".join(letter for letter in name if letter.isupper())


def _stem(name: str) -> str:
    """Return a name as `spelled`, without what any of them may end in: ``ECA_block`` is ``eca``."""
    return ENDINGS.sub("", spelled(name)) or spelled(name)


def _is_map_size(value: Any) -> bool:
    """Tell whether a value is the size of the map, which copied blocks of fixed tables take, as in ``[80, 80]``."""
    return isinstance(value, list) and len(value) == 2 and all(type(side) is int and side > 0 for side in value)


def _not_the_blocks(block: type[nn.Module], given: list[Any]) -> str:
    """Say which values of a row cannot be those that its block takes behind the width; empty where all can be."""
    every = list(inspect.signature(block).parameters.values())
    options = [option for option in every if option.name != "c1"]
    forms = [options, every]  # a ResNetLayer's row has the width that comes in
    if [option.name for option in options[:2]] == ["c2", "n"]:  # Ultralytics gives these the repeats
        forms = [[option for option in options if option.name != "n"]]
    if any(_fit(form, given) for form in forms):
        return ""
    return f"takes the values of {block.__name__}, [{', '.join(option.name for option in forms[0])}], got {given}"


def _fit(options: list[inspect.Parameter], given: list[Any]) -> bool:
    pairs = zip(options[1:], given[1:], strict=False)
    return len(given) <= len(options) and all(_is_like(option.default, value) for option, value in pairs)


def _is_like(default: Any, value: Any) -> bool:
    """Tell whether a value can be meant for an option of that default; Ultralytics evaluates text."""
    if value is None or isinstance(value, str):
        return True
    if isinstance(default, bool):
        return value in (0, 1)
    if isinstance(default, (int, float)):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return True


def _names(record: Mechanism) -> tuple[str, ...]:
    return (record.cls.__name__, record.name, *record.aliases)


def _is_the_hosts(name: str, host_names: Mapping[str, Any]) -> bool:
    for prefix, home in (("nn.", nn), ("torchvision.ops.", None)):
        if name.startswith(prefix):
            return home is None or hasattr(home, name.removeprefix(prefix))
    return name in host_names and not name.startswith(PREFIX)


def _modules(host_names: Mapping[str, Any]) -> list[str]:
    return [name for name, value in host_names.items() if isinstance(value, type) and issubclass(value, nn.Module)]


def _unknown(index: int, name: str, host_names: Mapping[str, Any]) -> str:
    if meant := REFUSED.get(name.lower()):
        return f"row {index} names {name}, which neither Ultralytics nor attngraft has; {meant} ({PLUGIN_HINT})"
    ours = [word for record in mechanisms().values() for word in (record.cls.__name__, *record.aliases)]
    inside = {block: name.removeprefix(block) for block in _modules(host_names) if name.startswith(block)}
    blocks = [block for block, rest in inside.items() if rest.startswith("_") or rest.isupper()]
    if blocks:
        block = max(blocks, key=len)
        word = inside[block].removeprefix("_")
        return (
            f"row {index} names {name}: {block} is a block of Ultralytics, and no mechanism is called {word!r}; "
            f"{_nearest(word, ours)} ({PLUGIN_HINT})"
        )
    near = _nearest(name, [*ours, *(word for word in _modules(host_names) if not word.startswith(PREFIX))])
    return f"row {index} names {name}, which neither Ultralytics nor attngraft has; {near} ({PLUGIN_HINT})"


def _meant(name: str, known: list[str]) -> list[str]:
    stem = _stem(name)
    return [word for word in known if stem in (_stem(word), _initials(word).lower()) and len(stem) > 1]


def _nearest(name: str, known: list[str]) -> str:
    """Name the words like a name or a part of it: with its letters as their capitals, as CA is CoordAtt, or alike."""
    short = _meant(name, known) or [word for word in known if word == _initials(name) and len(word) > 1]
    for part in filter(None, re.split(r"[_\d]+", name)):
        short = short or _meant(part, known)
    if short:
        return f"did you mean {' or '.join(dict.fromkeys(short[:3]))}?"
    close = suggest(name, known, key=_stem)
    return close if close.startswith("did you mean") else "attngraft list shows the mechanisms"
