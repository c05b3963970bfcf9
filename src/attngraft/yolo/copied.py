"""Checkpoints of copied classes: read as data, whatever the module was called that the class was pasted into.

A pickle names a class and holds its state. Where the class is not to be had, a stand-in takes the state instead, and
turns into our mechanism where the state is one of the widely copied forms. Nothing of the file is looked up, imported
or run for it. What a stand-in cannot turn into, Ultralytics would have to know itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import AttngraftError
from attngraft._core.registry import mechanism, mechanisms
from attngraft.yolo.placing import PROBE_SIZE

Translate = Callable[[Mapping[str, Any], dict[str, Tensor]], "nn.Module | None"]


UNKNOWN = 0
"""Width of a mechanism until it has seen a map."""


class StandIn(nn.Module):
    """A class that is not to be had here; turns into a mechanism of ours when its state says which."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the pickled state of a copied class."""
        try:
            found = translated(type(self).__name__, state)
        except (AttngraftError, AttributeError, KeyError, RuntimeError, TypeError, ValueError):
            found = None  # the form of another class of that name
        if found is None:
            super().__setstate__(state)  # type: ignore[no-untyped-call]
            return
        noted = {key: value for key, value in state.items() if key in ("i", "f", "type", "np", "_forward_hooks")}
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
    for model in loaded.values() if isinstance(loaded, Mapping) else ():
        if not isinstance(model, nn.Module):
            continue
        unsure = [part for part in model.modules() if getattr(part, "channels", None) == UNKNOWN]
        handles = [part.register_forward_pre_hook(_note_width) for part in unsure]
        if not unsure:
            continue
        training, weight = model.training, next(model.parameters())
        channels = getattr(model, "yaml", {}).get("channels", 3)
        try:
            with torch.no_grad():
                model.eval()(torch.zeros(1, channels, PROBE_SIZE, PROBE_SIZE, dtype=weight.dtype, device=weight.device))
        finally:
            model.train(training)
            for handle in handles:
                handle.remove()


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


PARTS = ("h_swish", "h_sigmoid", "hswish", "hsigmoid")
"""Classes that copied mechanisms are made of, without parameters of their own."""


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
        if found is not None:
            training = bool(state.get("training", False))
            weight = next(iter(tensors.values()), None)
            return found.to(weight.dtype if weight is not None else None).train(training)
    return None


def _is_called(name: str, *words: str) -> bool:
    return any(word.lower() in name.lower() for word in words)


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return parameters and buffers below a pickled state by their full names."""
    found = {name: value.detach() for name, value in state["_parameters"].items() if value is not None}
    found |= {name: value for name, value in state["_buffers"].items() if value is not None}
    for name, child in state["_modules"].items():
        if child is not None:
            found |= {f"{name}.{key}": value for key, value in child.state_dict().items()}
    return found


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor] | None:
    """Rename tensors by the beginnings of their names; None unless exactly these are there."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        old = next((old for old in names if name == old or name.startswith(f"{old}.")), None)
        if old is None:
            return None
        found[names[old] + name.removeprefix(old)] = value
    return found if {name.split(".")[0] for name in found} == {new.split(".")[0] for new in names.values()} else None


def _filled(module: nn.Module, tensors: Mapping[str, Tensor] | None) -> nn.Module | None:
    """Load a state whose tensors may have another rank, as those of a 1x1 convolution and a linear layer."""
    if tensors is None:
        return None
    own = module.state_dict()
    if set(own) != set(tensors) or any(own[name].numel() != tensors[name].numel() for name in own):
        return None
    module.load_state_dict({name: tensors[name].reshape(own[name].shape) for name in own})
    return module


def _keep_norm(module: nn.Module, old: Any) -> None:
    """Give a norm the settings of the one whose place it takes: Ultralytics changes eps and momentum of its own."""
    norm: Any = module.get_submodule("norm")
    norm.eps = old.eps
    if hasattr(old, "momentum"):
        norm.momentum = old.momentum


def _of_unknown_width(module: Any) -> Any:
    """Mark a mechanism whose copied class is not told its width; `find_widths` finds it."""
    if module is not None:
        module.channels = UNKNOWN
    return module


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


def _se(_state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    for first, second in (("fc.0", "fc.2"), ("fc1", "fc2"), ("excitation.0", "excitation.2"), ("l1", "l2")):
        renamed = _renamed(tensors, {first: "squeeze", second: "excite"})
        if renamed is not None and "squeeze.weight" in renamed and renamed["squeeze.weight"].shape[2:].numel() == 1:
            hidden, channels = renamed["squeeze.weight"].shape[:2]
            se = mechanism("se").cls(channels, reduction=channels // hidden, bias="squeeze.bias" in renamed)
            return _filled(se, renamed)
    return None


def _eca(_state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    kernel = tensors.get("conv.weight")
    if kernel is None or kernel.dim() != 3:
        return None
    return _of_unknown_width(_filled(mechanism("eca").cls(1, kernel_size=kernel.shape[2]), tensors))


def _ema(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    groups = state.get("groups", state.get("factor"))
    if not isinstance(groups, int) or "conv1x1.weight" not in tensors:
        return None
    ema = _filled(mechanism("ema").cls(groups * tensors["conv1x1.weight"].shape[0], groups=groups), tensors)
    if ema is not None:
        ema.gn.eps = state["_modules"]["gn"].eps  # type: ignore[union-attr]
    return ema


def _simam(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    lam = state.get("e_lambda")
    if not isinstance(lam, (int, float)) or tensors:
        return None
    return _of_unknown_width(mechanism("simam").cls(1, e_lambda=float(lam)))


def _coord_attention(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    names = {"conv1": "squeeze", "bn1": "norm", "conv_h": "rows", "conv_w": "columns"}
    renamed = _renamed(tensors, names)
    if renamed is None:
        return None
    hidden, channels = renamed["squeeze.weight"].shape[:2]
    module: Any = mechanism("coord_attention").cls(channels)
    if module.hidden != hidden:
        module = mechanism("coord_attention").cls(channels, reduction=channels // hidden)
    filled = _filled(module, renamed)
    if filled is not None:
        _keep_norm(filled, state["_modules"]["bn1"])
    return filled


def _shuffle_attention(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    groups = state.get("G", state.get("groups"))
    names = {
        "cweight": "channel_weight", "cbias": "channel_bias", "sweight": "cell_weight", "sbias": "cell_bias",
        "gn": "norm",
    }  # fmt: skip
    renamed = _renamed(tensors, names)
    if renamed is None or not isinstance(groups, int):
        return None
    module = mechanism("shuffle_attention").cls(2 * groups * renamed["channel_weight"].numel(), groups=groups)
    filled = _filled(module, renamed)
    if filled is not None:
        _keep_norm(filled, state["_modules"]["gn"])
    return filled


COPIED: Mapping[str, Translate] = {
    "se": _se,
    "eca": _eca,
    "ema": _ema,
    "simam": _simam,
    "coord_attention": _coord_attention,
    "shuffle_attention": _shuffle_attention,
}
"""The widely copied classes whose operator is ours, and how their state becomes ours."""
