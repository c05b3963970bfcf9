"""Checkpoints of copied classes: read as data, whatever the module was called that the class was pasted into.

A pickle names a class and holds its state. Where the class is not to be had, a stand-in takes the state instead, and
turns into our mechanism where the state is one of the widely copied forms. Nothing of the file is looked up, imported
or run for it. What a stand-in cannot turn into, Ultralytics would have to know itself.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import ultralytics
from torch import Tensor, nn
from ultralytics.nn.modules.conv import CBAM, ChannelAttention, SpatialAttention

from attngraft._core.errors import AttngraftError, CheckpointError
from attngraft._core.registry import mechanism, mechanisms
from attngraft.attention._copied import telling
from attngraft.yolo.copied_forms import COPIED, UNKNOWN
from attngraft.yolo.placing import PROBE_SIZES

log = logging.getLogger("ultralytics")

NOTED = ("i", "f", "type", "np", "_forward_hooks")
"""What Ultralytics notes on a layer, and what comes behind it."""

PASTED_OVER: dict[type, tuple[int, ...]] = {CBAM: (16,), ChannelAttention: (16,), SpatialAttention: ()}
"""Ultralytics' classes that copies are pasted over, and arguments by which one of them is made."""


class StandIn(nn.Module):
    """A class that is not to be had here; turns into a mechanism of ours when its state says which."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the pickled state of a copied class."""
        found = _known(type(self).__name__, state)
        if found is None:
            super().__setstate__(state)  # type: ignore[no-untyped-call]
            return
        noted = {key: value for key, value in state.items() if key in NOTED}
        self.__class__ = type(found)  # type: ignore[assignment]
        self.__dict__.clear()
        self.__dict__.update({**vars(found), **noted})


@contextmanager
def stand_ins(names: Iterable[str]) -> Iterator[None]:
    """Let the unpickler find a `StandIn` under each of the names, and nothing afterwards.

    Args:
        names: Dotted names of classes that are not to be had here.
    """
    added: list[tuple[ModuleType, str]] = []
    made: list[str] = []
    try:
        for name in names:
            home, _, attribute = name.rpartition(".")
            for end in [i for i, char in enumerate(f"{home}.") if char == "."]:
                if home[:end] not in sys.modules:
                    sys.modules[home[:end]] = ModuleType(home[:end])
                    made.append(home[:end])
            setattr(sys.modules[home], attribute, type(attribute, (StandIn,), {"__module__": home}))
            added.append((sys.modules[home], attribute))
        yield
    finally:
        for module, attribute in added:
            delattr(module, attribute)
        for name in made:
            sys.modules.pop(name, None)


def left_over(loaded: Any) -> list[str]:
    """Name the classes of stand-ins that did not turn into a mechanism.

    Args:
        loaded: What was unpickled: a module, or a dictionary that holds some.
    """
    parts = loaded.values() if isinstance(loaded, Mapping) else [loaded]
    modules = [part for one in parts if isinstance(one, nn.Module) for part in one.modules()]
    return sorted({f"{type(m).__module__}.{type(m).__name__}" for m in modules if isinstance(m, StandIn)})


def find_widths(loaded: Any) -> None:
    """Let mechanisms that do not know their width see one small image's map.

    Args:
        loaded: What was unpickled: a dictionary that holds host models.
    """
    for model in _models(loaded):
        unsure = [part for part in model.modules() if getattr(part, "channels", None) == UNKNOWN]
        handles = [part.register_forward_pre_hook(_note_width) for part in unsure]
        if not unsure:
            continue
        training, weight = model.training, next(model.parameters())
        channels, size = getattr(model, "yaml", {}).get("channels", 3), PROBE_SIZES[-1]
        try:
            with torch.no_grad():
                model.eval()(torch.zeros(1, channels, size, size, dtype=weight.dtype, device=weight.device))
        finally:
            model.train(training)
            for handle in handles:
                handle.remove()


def replace_pasted(file: Path, loaded: Any) -> None:
    """Put ours in the place of copies that were pasted over a class of Ultralytics, under its name.

    Such a copy unpickles as Ultralytics' own class, whose ``forward`` is not for its parts.

    Args:
        file: The checkpoint.
        loaded: What was unpickled: a dictionary that holds host models.

    Raises:
        CheckpointError: If a copy is none of the known forms.
    """
    for model in _models(loaded):
        replaced: list[str] = []
        for name, part in list(model.named_modules()):
            if type(part) not in PASTED_OVER or name.startswith(tuple(replaced)) or _kinds(part) == _host_kinds(part):
                continue
            cls = type(part)
            found = _known(cls.__name__, vars(part))
            if found is None:
                raise CheckpointError(
                    f"{file} has at {name} a class that was pasted over {cls.__module__}.{cls.__name__}, and here that "
                    "is another class; paste it here too, or give it a name of its own where it was trained"
                )
            vars(found).update({key: vars(part)[key] for key in NOTED if key in vars(part)})
            model.set_submodule(name, found)
            replaced.append(f"{name}.")


def require_called(file: Path, loaded: Any) -> None:
    """Require that what was put into a class of Ultralytics, by editing that class, has somebody here who calls it.

    Such a layer unpickles as Ultralytics' own class, whose code knows nothing of the part: it would be there in vain.

    Args:
        file: The checkpoint.
        loaded: What was unpickled: a dictionary that holds host models.

    Raises:
        CheckpointError: If a part with weights in it is a copied mechanism; other parts are warned of.
    """
    idle = [
        (f"{name}.{child}", part, type(layer).__name__)
        for model in _models(loaded)
        for name, layer in model.named_modules()
        if type(layer).__module__.startswith("ultralytics.nn.modules")
        for child, part in layer.named_children()
        if child not in {"grafts", *_names_in(type(layer))} and any(True for _ in part.parameters())  # type: ignore[arg-type]
    ]
    kinds = tuple(record.cls for record in mechanisms().values())
    for name, part, cls in idle:
        if any(isinstance(one, kinds) for one in part.modules()):
            raise CheckpointError(
                f"{file} has {type(part).__name__} at {name}, inside {cls}, a class of Ultralytics that does "
                "not call it here: the class was edited where this was trained; edit it here too, or train again with "
                "a row or a recipe that names the mechanism"
            )
    if idle:
        name, part, cls = idle[0]
        log.warning(
            "%s: %d part(s) have weights that Ultralytics %s does not call, first %s at %s inside %s; was the class "
            "edited where this was trained, or by another release? Figures will differ from those of then",
            file, len(idle), ultralytics.__version__, type(part).__name__, name, cls,
        )  # fmt: skip


@cache
def _names_in(cls: Any) -> frozenset[str]:
    """Return every name that the code of a class and of its bases uses, PyTorch's apart."""
    waiting = [
        function.__code__
        for base in cls.__mro__
        if not base.__module__.startswith("torch")
        for function in map(inspect.unwrap, filter(inspect.isfunction, vars(base).values()))
    ]
    found: set[str] = set()
    while waiting:
        code = waiting.pop()
        found.update(code.co_names, (one for one in code.co_consts if isinstance(one, str)))
        waiting += [one for one in code.co_consts if inspect.iscode(one)]
    return frozenset(found)


def _kinds(module: nn.Module) -> dict[str, type]:
    return {name: type(part) for name, part in module.named_modules()}


def _host_kinds(module: nn.Module) -> dict[str, type]:
    return _kinds(type(module)(*PASTED_OVER[type(module)]))


def say_what_is_unsure(file: Path, loaded: Any) -> None:
    """Warn of what a file does not tell about the copied classes in it.

    Args:
        file: The checkpoint.
        loaded: What was unpickled: a dictionary that holds host models.
    """
    cls = mechanism("gam").cls
    for name in sorted(
        {name for model in _models(loaded) for name, part in model.named_modules() if isinstance(part, cls)}
    ):
        log.warning(
            "%s: the copied GAM class at %s is read without a sigmoid on its channel gate; copies with one have the "
            "same tensors. If validation gives worse figures than training did, set channel_gate = 'sigmoid' on it",
            file,
            name,
        )


def _models(loaded: Any) -> list[nn.Module]:
    return [one for one in loaded.values() if isinstance(one, nn.Module)] if isinstance(loaded, Mapping) else []


def _note_width(module: Any, inputs: Any) -> None:
    module.channels = inputs[0].shape[1]


def may_be_ours(name: str) -> bool:
    """Tell by its name whether a class may be a copied mechanism or a part of one, before anything is unpickled.

    Args:
        name: Its dotted name.
    """
    attribute = name.rpartition(".")[2].lower()
    return attribute in PARTS or any(word in attribute for word in _words())


def _words() -> set[str]:
    known = (word for record in mechanisms().values() for word in (record.cls.__name__, *record.aliases))
    return {word.lower() for word in known}


FACTORS_OF_THE_FORMS = ("e_lambda", "reduction", "reduction_ratio", "ratio", "rate")
"""Fractions that copies keep, of which our mechanism has the result or the option."""

PARTS = (
    "h_swish", "h_sigmoid", "hswish", "hsigmoid", "flatten", "basicconv", "channelpool", "channelgate", "spatialgate",
    "channelattention", "spatialattention", "channelattentionmodule", "spatialattentionmodule",
)  # fmt: skip
"""Classes that copied mechanisms are made of."""


def _known(name: str, state: Mapping[str, Any]) -> nn.Module | None:
    """Return what `translated` does, and None where a state is of another class of that name."""
    try:
        return translated(name, state)
    except (AttngraftError, AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return None


def translated(name: str, state: Mapping[str, Any]) -> nn.Module | None:
    """Return the mechanism of ours that a pickled state stands for, with its numbers; None where it stands for none.

    Args:
        name: The class's name, by which forms without a telling state are known.
        state: The instance's ``__dict__``.
    """
    tensors = _tensors(state)
    if {"query.weight", "key.weight", "value.weight"} <= set(tensors):
        return _mhsa(state)
    known = [record for record in mechanisms().values() if _is_called(name, record.cls.__name__, *record.aliases)]
    for record in sorted(known, key=lambda record: -len(record.cls.__name__)):
        found = COPIED[record.name](state, tensors) if record.name in COPIED else None
        if found is not None and not telling(state, known=FACTORS_OF_THE_FORMS):
            training = bool(state.get("training", False))
            weight = next(iter(tensors.values()), None)
            return found.to(weight.dtype if weight is not None else None).train(training)
    return None


def _is_called(name: str, *words: str) -> bool:
    """Tell whether a name has one of the words as a whole: ``SE`` is a word of SELayer and not of SparseMLP."""
    spans = ((i, i + len(word)) for word in words for i in _found(name, word))
    return any(_is_edge(name, start) and _is_edge(name, end) for start, end in spans)


def _found(name: str, word: str) -> list[int]:
    return [i for i in range(len(name)) if name[i : i + len(word)].lower() == word.lower()]


def _is_edge(name: str, i: int) -> bool:
    """Tell whether a word may begin or end before a character; ``SEblock`` is both S Eblock and SE block."""
    before, after = name[max(i - 2, 0) : i], name[i : i + 2]
    if not (before[-1:].isalpha() and after[:1].isalpha()):
        return True
    if after[0].isupper():
        return before[-1].islower() or after[1:].islower()
    return len(before) == 2 and before.isupper()


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return parameters and buffers below a pickled state by their full names, also those that no state dict holds."""
    found = {name: value.detach() for name, value in state["_parameters"].items() if value is not None}
    found |= {name: value for name, value in state["_buffers"].items() if value is not None}
    for name, child in state["_modules"].items():
        if child is not None:
            held = (*child.named_parameters(remove_duplicate=False), *child.named_buffers(remove_duplicate=False))
            found |= {f"{name}.{key}": value.detach() for key, value in held}
    return found


def _mhsa(state: Mapping[str, Any]) -> nn.Module | None:
    """Translate as `MHSA` itself does; a state without tables needs the number of heads."""
    cls: Any = mechanism("mhsa").cls
    heads = next((state[name] for name in ("heads", "num_heads", "n_heads") if name in state), None)
    if heads is None:
        tables = [value for name, value in state["_parameters"].items() if name.startswith("rel_")]
        heads = tables[0].shape[1] if tables else None
    if heads is None:
        return None
    module: Any = cls.__new__(cls)
    module.__setstate__({**state, "heads": heads})
    found: nn.Module = module
    return found
