"""``freeze=`` of Ultralytics' layers, kept from reaching into grafts: to freeze the backbone and train the attention.

Ultralytics freezes every parameter whose name holds one of its ``freeze_layer_names``, and the norms that it finds so.
Those names are replaced by the full names of Ultralytics' own parameters and norms wherever a graft lies among them. A
graft trains unless it is named itself: by its path (``freeze=[3.grafts]``), or by its mechanism (``freeze=mhsa``,
``MHSA`` as rows call it, or ``bot``).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from types import ModuleType
from typing import Any

from torch import nn
from ultralytics.utils.torch_utils import unwrap_model

from attngraft._core.errors import OptionError
from attngraft._core.registry import mechanisms
from attngraft.yolo.backbones import Backbone
from attngraft.yolo.grafting import BoTConv, Graft, TokenEncoder
from attngraft.yolo.placing import CHILD
from attngraft.yolo.recipe import BOT
from attngraft.yolo.rows import by_row_name

ATTRIBUTE = "freeze_layer_names"
"""The trainer's attribute, a list that Ultralytics sets and reads in this order."""

LAYER = re.compile(r"model\.(.+)\.\Z")

IN_LAYERS = re.compile(r"(?:.*\.)?model\.(?=\d)")
"""What stands before a layer's number in a full name: ``model.``, or ``student_model.model.`` under distillation."""

TEACHER = "teacher_model."
"""Beginning of the names of a distillation's teacher, of which nothing trains."""

SPAN = re.compile(r"range\((\d+), (\d+)\)\Z")

log = logging.getLogger("ultralytics")


def install(engine: ModuleType) -> None:
    """Let every trainer of ``ultralytics.engine.trainer`` spare grafts.

    Args:
        engine: That module, as just imported.
    """
    setattr(engine.BaseTrainer, ATTRIBUTE, _FreezeNames())


class _FreezeNames:
    """The attribute as a descriptor: what Ultralytics assigns is narrowed in place before Ultralytics reads it."""

    def __get__(self, trainer: Any, _owner: type | None = None) -> Any:
        if trainer is None:
            return self
        if ATTRIBUTE not in vars(trainer):
            raise AttributeError(ATTRIBUTE)
        return vars(trainer)[ATTRIBUTE]

    def __set__(self, trainer: Any, names: list[str]) -> None:
        vars(trainer)[ATTRIBUTE] = names
        if isinstance(getattr(trainer, "model", None), nn.Module):
            names[:] = narrowed(unwrap_model(trainer.model), names, trainer.args.freeze)


def graft_paths(model: nn.Module) -> dict[str, str]:
    """Return the path of every graft of a host model, and the name of its mechanism.

    A graft is what follows a layer, what took the place of a module, and a mechanism that a row of the YAML names; not
    what a backbone of ours is made of.

    Args:
        model: The model.
    """
    classes = {record.cls: record.name for record in mechanisms().values()}

    def named(part: nn.Module) -> str:
        # `parametrize` makes a class of its own, which derives from that of the mechanism.
        return next((classes[base] for base in type(part).__mro__ if base in classes), "")

    found: dict[str, str] = {}
    hidden: list[str] = []
    for path, part in model.named_modules():
        if path.startswith(tuple(f"{other}." for other in [*found, *hidden])):
            continue
        if isinstance(part, Backbone):
            hidden.append(path)
        elif isinstance(part, (Graft, BoTConv)):
            found[path] = named(part.mechanism) or type(part.mechanism).__name__
        elif isinstance(part, TokenEncoder):
            found[f"{path}.mechanism"] = named(part.mechanism) or type(part.mechanism).__name__
        elif name := named(part):
            found[path] = name
    return found


def narrowed(model: nn.Module, names: Iterable[str], freeze: Any) -> list[str]:
    """Return the names by which Ultralytics freezes, without those of grafts that are not named themselves.

    Args:
        model: The model that is trained.
        names: Ultralytics' names, ``model.LAYER.`` and others.
        freeze: The training option as it was given: a number of layers, a list or another collection, or text.

    Raises:
        OptionError: If ``freeze`` is none of these.
    """
    names = [*names, *_passed_over(freeze)]
    freeze = _meant(freeze)
    grafts = {path: name for path, name in graft_paths(model).items() if not path.startswith(TEACHER)}
    wanted: list[str] = []
    spared: dict[str, None] = {}
    unknown: list[str] = []
    for name in names:
        layer = LAYER.match(name)
        if layer is None:
            wanted.append(name)
            continue
        word = layer.group(1).strip("'\"")
        record = by_row_name(word)
        called = record.name if record else word
        by_name = [path for path, mechanism in grafts.items() if called in (mechanism, CHILD)]
        if called.lower() == BOT:
            by_name = [path for path in grafts if isinstance(model.get_submodule(path), BoTConv)]
        inside = [path for path in grafts if _holds(word, path, itself=isinstance(freeze, int))]
        if by_name:
            wanted += [f"{path}." for path in by_name]
        elif inside:
            spared |= dict.fromkeys(inside)
            wanted += _own(model, word, grafts)
        else:
            wanted.append(f"model.{word}.")
            if not any(wanted[-1] in f"{path}." for path, _ in model.named_modules()):
                unknown.append(word)
    if unknown:
        named = _abridged([*map(repr, unknown)])
        log.warning(f"attngraft: freeze names {named}, and this model has no layer, path or graft of that name")
    spared = {path: None for path in spared if not any(f"{path}.".startswith(one) for one in wanted)}
    if spared:
        _report(list(spared), freeze)
    return wanted


def _meant(freeze: Any) -> int | list[Any]:
    """Return what an option stands for: the number of first layers, or the list of layers, paths and mechanisms.

    Ultralytics reads an integer and a list, and freezes nothing for all else without a word: neither for the tuple
    that ``freeze=0,1,2`` is on the command line, nor for text.

    Raises:
        OptionError: If it stands for neither.
    """
    if freeze is None:
        return []
    if isinstance(freeze, int) and freeze is not True:
        return int(freeze)
    if isinstance(freeze, str):
        return _read(freeze.strip())
    if isinstance(freeze, (list, tuple, range)):
        return list(freeze)
    if isinstance(freeze, AbstractSet):
        return sorted(freeze, key=str)
    raise OptionError(
        f"freeze needs to be a number of layers, such as 11, or a list of layers, paths and mechanisms, "
        f"such as [0,1,2], got {freeze!r}"
    )


def _read(text: str) -> int | list[Any]:
    """Read an option given as text; a set and a range arrive as text too, as Ultralytics writes them to args.yaml."""
    if text.isdecimal():
        return int(text)
    if span := SPAN.match(text):
        return list(range(*map(int, span.groups())))
    return [word.strip() for word in text.strip("[](){} ").split(",") if word.strip()]


def _passed_over(freeze: Any) -> list[str]:
    """Return the names of the layers that Ultralytics has none for, since it does not read this kind of option."""
    if isinstance(freeze, (int, list)):
        return []
    meant = _meant(freeze)
    return [f"model.{layer}." for layer in (range(meant) if isinstance(meant, int) else meant)]


def _holds(word: str, graft: str, *, itself: bool) -> bool:
    """Tell whether a graft lies inside what a word of ``freeze`` names, and is not named by it."""
    if CHILD in word.split("."):
        return False
    path = _in_layers(graft)
    return path.startswith(f"{word}.") or (itself and path == word)


def _in_layers(name: str) -> str:
    """Return a full name as seen from the model's layers, such as ``10.grafts.0``."""
    return IN_LAYERS.sub("", name, count=1)


def _own(model: nn.Module, word: str, grafts: Mapping[str, str]) -> list[str]:
    """Return the full names of a layer's parameters and norms that are Ultralytics' own."""
    ours = tuple(f"{path}." for path in grafts)
    named = [name for name, _ in model.named_parameters()]
    named += [path for path, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)]
    return [name for name in named if f"model.{word}." in name and not f"{name}.".startswith(ours)]


def _report(spared: list[str], freeze: int | list[Any]) -> None:
    paths = [_in_layers(path) for path in spared]
    given = list(range(freeze)) if isinstance(freeze, int) else freeze
    example = ",".join(map(str, [*given[:1], *(["..."] if given[1:] else []), paths[0]]))
    log.info(
        f"attngraft: freeze={freeze} covers layers with grafts, and the grafts train: {_abridged(paths)}; "
        f"to freeze one too, name it: freeze=[{example}]"
    )


def _abridged(words: list[str]) -> str:
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if words[3:] else "")
