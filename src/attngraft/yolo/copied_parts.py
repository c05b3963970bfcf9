"""Which modules a copied class is made of, held against those of the form it is taken for.

Tensors do not tell an activation, a dilation or a further pool, the pickled modules do. A class with any module that
its form does not name, or with one in another place or of other settings, is another operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

Place = Callable[[nn.Module], bool]
"""Tells whether a module may stand at one place of a form."""

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def kind(*classes: type[nn.Module]) -> Place:
    """Return the place of exactly these classes: a subclass may compute something else."""
    return lambda part: type(part) in classes


def pool(cls: type[nn.Module], *sizes: int | None) -> Place:
    """Return the place of an adaptive pool to ``sizes``, rows and columns; None keeps an axis."""
    return lambda part: type(part) is cls and _pair(vars(part)["output_size"]) == sizes


def named(*names: str) -> Place:
    """Return the place of a class without tensors that copies bring along, by its name in small letters."""
    return lambda part: _is_called(part, *names) and not _below(part)


def softmax(part: nn.Module) -> bool:
    """Tell whether a module is a softmax over the last axis of a product of matrices."""
    return type(part) is nn.Softmax and part.dim in (-1, 2)


def hard_swish(part: nn.Module) -> bool:
    """Tell whether a module is PyTorch's hard swish or a copied class of it, with the modules that one has."""
    if type(part) is nn.Hardswish:
        return True
    known = (type(one) in (nn.ReLU6, nn.Hardsigmoid) or _is_called(one, "hsigmoid") for one in _below(part))
    return _is_called(part, "hswish", "hardswish") and all(known)


SIGMOID = kind(nn.Sigmoid)
RELU = kind(nn.ReLU)
LEAKY = kind(nn.ReLU, nn.LeakyReLU)
MEANS = pool(nn.AdaptiveAvgPool2d, 1, 1)
MAXIMA = pool(nn.AdaptiveMaxPool2d, 1, 1)
ROW_MEANS = pool(nn.AdaptiveAvgPool2d, None, 1)
COLUMN_MEANS = pool(nn.AdaptiveAvgPool2d, 1, None)
FLATTEN = named("flatten")
PLANES = named("channelpool")


def fits(state: Mapping[str, Any], module: nn.Module, names: Mapping[str, str], form: Sequence[str | Place]) -> bool:
    """Tell whether a copied class has only the parts of a form, each at most once.

    In a sequence, whose order the class cannot change, parts must follow each other as in the form. Elsewhere the
    class's own ``forward``, which no file holds, says when each is called, and may call functions instead.

    Args:
        state: The instance's ``__dict__``.
        module: Our mechanism.
        names: How the beginnings of names in the class become ours.
        form: Layers of ``module`` by name, and places of parts without tensors.
    """
    layers = dict(module.named_modules())
    free = dict(enumerate(form))
    last = -1
    for name, part, follows in _leaves(state["_modules"]):
        own = own_name(name, names)
        here = (last + 1,) if follows else tuple(free)
        found = next((i for i in here if i in free and _stands_at(free[i], own, part, layers)), None)
        if found is None:
            return False
        last = found
        del free[found]
    return True


def _stands_at(place: str | Place, own: str, part: nn.Module, layers: Mapping[str, nn.Module]) -> bool:
    if isinstance(place, str):
        return place == own and _same_layer(part, layers[place])
    return place(part)


def _leaves(parts: Mapping[str, Any], prefix: str = "", in_sequence: bool = False) -> Iterator[tuple[str, Any, bool]]:
    """Yield each part that has none, its name, and whether it comes straight after the last one in a sequence."""
    for i, (name, part) in enumerate(parts.items()):
        if part is None or (not in_sequence and type(part) is nn.Identity):
            continue
        children = dict(part.named_children())
        if children and not hard_swish(part) and (type(part) is nn.Sequential or not _is_of_torch(part)):
            yield from _leaves(children, f"{prefix}{name}.", type(part) is nn.Sequential)
        else:
            yield f"{prefix}{name}", part, in_sequence and i > 0


def _is_of_torch(part: nn.Module) -> bool:
    return type(part).__module__.startswith("torch.")


def own_name(name: str, names: Mapping[str, str]) -> str:
    """Return our name of a tensor or a part, by the beginning that has another name; empty where none has.

    Args:
        name: Its name in a copied class.
        names: How the beginnings of names in the class become ours.
    """
    old = next((old for old in names if name == old or name.startswith(f"{old}.")), None)
    return "" if old is None else names[old] + name.removeprefix(old)


def _same_layer(theirs: Any, ours: Any) -> bool:
    """Tell whether two layers with equally many weights compute the same; a norm's eps and momentum are taken over."""
    if isinstance(ours, nn.GroupNorm):
        return type(theirs) is nn.GroupNorm and theirs.num_groups == ours.num_groups
    if type(ours) in NORMS:
        return type(theirs) in NORMS
    if _is_pointwise(theirs) and _is_pointwise(ours):
        return True
    return type(theirs) is type(ours) and _settings(theirs) == _settings(ours)


def _is_pointwise(layer: Any) -> bool:
    if type(layer) in (nn.Conv1d, nn.Conv2d):
        return {*layer.kernel_size, *layer.stride, layer.groups} == {1} and set(_padding(layer)) == {0}
    return type(layer) is nn.Linear


def _settings(layer: Any) -> tuple[Any, ...]:
    if type(layer) not in (nn.Conv1d, nn.Conv2d):
        return (layer,)  # equal to no other
    return layer.kernel_size, layer.stride, _padding(layer), layer.dilation, layer.groups, layer.padding_mode


def _padding(layer: Any) -> tuple[int, ...]:
    """Return the cells that a convolution adds at each side, also where it has them in a word."""
    if layer.padding == "same":
        return tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    return tuple(0 for _ in layer.kernel_size) if layer.padding == "valid" else layer.padding


def _pair(size: Any) -> tuple[Any, ...]:
    return tuple(size) if isinstance(size, (tuple, list)) else (size, size)


def _is_called(part: nn.Module, *names: str) -> bool:
    return type(part).__name__.lower().replace("_", "") in names


def _below(part: nn.Module) -> list[nn.Module]:
    return list(part.modules())[1:]
