"""Where a graft can go: from the words of a recipe to the modules of a built model.

Names by stride are found by running a small image through the layers and looking at what comes out, and what stands
inside a block is told by its structure, so they hold for every family, every scale letter and a user's own YAML.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import PlaceError, suggest

CHILD = "grafts"
"""Name of the child that holds the grafts of a layer."""

REPLACEMENT, REPLACED = "in_place_as", "in_place_of"
"""Attributes of a module that a graft put in the place of another: the mechanism's name, and the other's class."""

PROBE_SIZES = (64, 256)
"""Sides of the square probe images, in pixels: two cells at stride 32, and at stride 128 for models that go so far."""

FUSING = ("forward_fuse", "fuse_convs")
"""Methods of the blocks that Ultralytics turns into one convolution before it validates, predicts and exports."""

FINEST = 4
"""The smallest stride that has a name: P2 is at stride 4."""

ATTENTION, BOTTLENECKS = "attention", "bottlenecks"
"""Words after a layer's place: its inner attention, and the end of each of its bottlenecks."""


@dataclass(frozen=True)
class HostLayer:
    """A module that can carry a graft.

    Attributes:
        path: Its path from the model's layers, such as ``10`` or ``8.m.0.cv2``.
        channels: Channels of the map it gives.
        stride: Pixels of the image to one cell of that map.
        takes: Channels and stride of the map it is given; None when it takes anything but one map.
    """

    path: str
    channels: int
    stride: int
    takes: tuple[int, int] | None = None


@dataclass(frozen=True)
class Layout:
    """What a model offers to graft onto.

    Attributes:
        named: The layer of each name that the model has, such as ``P5`` and ``N4``.
        hosts: Every module that gives one map and can carry a graft, by path.
        refused: Why another module that gives one map cannot, by path.
        layers: Number of layers.
        classes: Class of every module that is no part of a graft, by path.
        attention: Paths of the attention inside blocks, whether they give maps or tokens.
        bottlenecks: Paths of the modules that end bottlenecks, before the shortcut is added.
    """

    named: dict[str, HostLayer]
    hosts: dict[str, HostLayer]
    refused: dict[str, str]
    layers: int
    classes: dict[str, str]
    attention: tuple[str, ...]
    bottlenecks: tuple[str, ...]

    def find(self, place: str) -> HostLayer:
        """Return the only layer of a place.

        Args:
            place: A name, a layer index or a dotted path; a path may begin with a name.

        Raises:
            PlaceError: If the model has no such place; lists those it has.
        """
        if place in self.named:
            return self.named[place]
        first, _, rest = place.partition(".")
        if first in self.named and rest:
            place = f"{self.named[first].path}.{rest}"
        if place in self.hosts:
            return self.hosts[place]
        if place in self.refused:
            raise PlaceError(self.refused[place])
        has = f"this model has {', '.join(self.named)}, and layers 0-{self.layers - 1}"
        if place[0] in "PN":
            raise PlaceError(f"this model has no place {place}; {has}")
        if place.isdigit() and int(place) >= self.layers:
            raise PlaceError(f"this model has no layer {place}; {has}")
        if place.isdigit():
            raise PlaceError(f"layer {place} does not give one map (B, C, H, W) that a mechanism could take; {has}")
        if place in self.attention:
            raise PlaceError(
                f"the attention {place} gives tokens and no map; take its place with mode=replace, or graft after its "
                f"layer: @{place.split('.')[0]}"
            )
        inside = [path for path in self.hosts if path.split(".")[0] == place.split(".")[0]]
        raise PlaceError(f"this model has no module {place} that gives one map; {suggest(place, inside)}")

    def expand(self, place: str) -> list[str]:
        """Return the paths that a place stands for: one, or several for a class name or the inside of a layer.

        Args:
            place: As in a recipe. A class name means the inner attention of each block of that class; where none has
                one, the ends of their bottlenecks; where there are none either, the modules themselves. Those of the
                detection head, which give no map that is looked at, are left out.

        Raises:
            PlaceError: If the model has no such class outside its head, or the layer no such inside.
        """
        if place[0].isalpha() and "." not in place and place not in self.named and not _is_stride_name(place):
            return self._of_class(place)
        first, _, rest = place.partition(".")
        if rest not in (ATTENTION, BOTTLENECKS):
            return [place]
        layer = self.find(first).path if first in self.named else first
        found = [path for path in getattr(self, rest) if _inside(path, layer)]
        if not found:
            raise PlaceError(f"layer {layer} ({self.classes.get(layer, 'not there')}) has no {rest} inside")
        return found

    def _of_class(self, name: str) -> list[str]:
        paths = [path for path, kind in self.classes.items() if kind.lower() == name.lower()]
        outer = [path for path in paths if not any(path != other and _inside(path, other) for other in paths)]
        if not outer:
            known = dict.fromkeys(kind for path, kind in self.classes.items() if path.isdigit())
            raise PlaceError(f"this model has no block of the class {name}; {suggest(name, known)}")
        found = self.within(outer) or outer
        # Those of the detection head give no map that a mechanism could take: the head is never looked into.
        reached = [path for path in found if self._reached(path)]
        if not reached and found[0] in self.refused:
            raise PlaceError(f"{name} is no place: {self.refused[found[0]]}")
        if not reached:
            raise PlaceError(
                f"this model has no {name} that gives one map (B, C, H, W) before its head ({len(found)} left out, the "
                f"first is {found[0]}); graft at one of {', '.join(self.named)}, or a layer number"
            )
        return reached

    def _reached(self, path: str) -> bool:
        """Tell whether a module gives one map, or is an attention on tokens of a layer that does."""
        return path in self.hosts or (path in self.attention and path.rpartition(".")[0] in self.hosts)

    def within(self, blocks: Iterable[str]) -> list[str]:
        """Return the attention inside blocks, or the ends of their bottlenecks where none is made of attention alone.

        Args:
            blocks: Their paths.
        """
        parts = [(self._inside(self.attention, block), self._inside(self.bottlenecks, block)) for block in blocks]
        attention = [path for attending, ends in parts if not ends for path in attending]
        return attention or [path for _, ends in parts for path in ends]

    @staticmethod
    def _inside(paths: Iterable[str], block: str) -> list[str]:
        return [path for path in paths if _inside(path, block) and path != block]


def places(model: Any) -> Layout:
    """Say what a host model offers to graft onto.

    Args:
        model: A host model such as ``DetectionModel``.
    """
    return layout(model.model, len(model.yaml["backbone"]), model.yaml.get("channels", 3))


def layout(layers: nn.Sequential, backbone: int, channels: int) -> Layout:
    """Look at a built model and say what it offers.

    What took the place of a module counts as one of that module's class, and nothing inside it is offered. So a place
    means the same where grafts are joined one after another and where a rebuild joins all of them.

    Args:
        layers: The model's layers as Ultralytics built them, each with ``i`` (index) and ``f`` (where it reads from).
        backbone: How many of them the YAML lists as the backbone.
        channels: Channels of the image.
    """
    hosts = _probe(layers, channels)
    consumed = {source for layer in layers[backbone:] for source in _sources(layer)}
    named = {}
    # Consumed layers come last so that what the neck reads wins over the last layer of the same stride.
    for index in [*range(backbone), *sorted(i for i in consumed if i < backbone)]:
        host = hosts.get(str(index))
        if host and host.stride >= FINEST:
            named[_name("P", host.stride)] = host
    head = layers[-1]
    for index in _sources(head):
        host = hosts.get(str(index))
        if host and (isinstance(head.f, list) or index >= backbone):
            named[_name("N", host.stride)] = host
    replaced = tuple(f"{path}." for path, part in layers.named_modules() if hasattr(part, REPLACEMENT))
    own = {
        path: part
        for path, part in layers.named_modules()
        if path and not _grafted(path) and not path.startswith(replaced)
    }
    offered = {path: host for path, host in hosts.items() if path in own}
    refused = _refused(layers, offered)
    return Layout(
        named=dict(sorted(named.items(), key=lambda item: (item[0][0] == "N", item[0]))),
        hosts={path: host for path, host in offered.items() if path not in refused},
        refused=refused,
        layers=len(layers),
        classes={path: getattr(part, REPLACED, type(part).__name__) for path, part in own.items()},
        attention=tuple(path for path, part in own.items() if _is_inner_attention(path, part)),
        bottlenecks=tuple(f"{path}.{end}" for path, part in own.items() if (end := _end(part))),
    )


def _refused(layers: nn.Sequential, offered: Iterable[str]) -> dict[str, str]:
    """Say which modules cannot carry a graft though they give one map, and why."""
    everywhere: dict[int, list[str]] = {}
    for path, part in layers.named_modules(remove_duplicate=False):
        everywhere.setdefault(id(part), []).append(path)
    fused = {path for path, part in layers.named_modules() if any(hasattr(part, method) for method in FUSING)}
    refused = {}
    for path in offered:
        around = accumulate(path.split(".")[:-1], "{}.{}".format)  # the outermost first
        block = next((one for one in around if one in fused), "")
        shared = [one for one in everywhere[id(layers.get_submodule(path))] if one != path]
        if block:
            refused[path] = (
                f"{path} is inside {block} ({type(layers.get_submodule(block)).__name__}), which Ultralytics makes one "
                f"convolution before it validates, predicts and exports, and a graft in it would be lost; use @{block}"
            )
        elif shared:
            refused[path] = (
                f"{path} is one module with {shared[0]}{' and others' if len(shared) > 1 else ''}, which would all get "
                f"the graft; use @{path.rpartition('.')[0]}"
            )
    return refused


def _grafted(path: str) -> bool:
    return CHILD in path.split(".")


def _inside(path: str, block: str) -> bool:
    return path == block or path.startswith(f"{block}.")


def _is_stride_name(place: str) -> bool:
    return len(place) == 2 and place[0] in "PN" and place[1].isdigit()


def _is_inner_attention(path: str, part: nn.Module) -> bool:
    """Tell whether a module is the attention of the block around it, by the child's name or PyTorch's own class."""
    return "." in path and (path.rpartition(".")[2] == "attn" or isinstance(part, nn.MultiheadAttention))


def _end(block: nn.Module) -> str:
    """Return the child that ends a bottleneck, before the shortcut is added; empty for what is no bottleneck.

    A bottleneck is a chain of convolutions with a shortcut around it, which it tells by ``add`` or ``shortcut``.
    """
    children = dict(block.named_children())
    if "shortcut" in children:
        return next((name for name in ("cv3", "conv") if name in children), "")
    if not isinstance(getattr(block, "add", None), bool):
        return ""
    if not all(name.startswith("cv") for name in children):
        return ""
    return next((name for name in ("cv2", "cv1") if name in children), "")


def _name(letter: str, stride: int) -> str:
    return f"{letter}{stride.bit_length() - 1}"


def _sources(layer: Any) -> list[int]:
    """Return the absolute indices of the layers that this one reads."""
    sources: list[int] = layer.f if isinstance(layer.f, list) else [layer.f]
    return [layer.i + source if source < 0 else source for source in sources]


def _probe(layers: nn.Sequential, channels: int) -> dict[str, HostLayer]:
    """Run one small image through all layers but the head and note every module that gives one map.

    Where a layer gives one cell, the next layer may give one too: an image of the next size tells their strides.
    """
    for size in PROBE_SIZES:
        try:
            hosts, least = _probed(layers, channels, size)
        except RuntimeError:  # a neck that doubles a map of one cell, which the one before it does not fit
            if size == PROBE_SIZES[-1]:
                raise
            continue
        if least > 1:
            break
    return hosts


def _probed(layers: nn.Sequential, channels: int, size: int) -> tuple[dict[str, HostLayer], int]:
    """Return every module that gives one map, and the rows of the smallest map of a layer."""
    hosts: dict[str, HostLayer] = {}
    rows = [size]

    def note(path: str) -> Any:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            if shape := _channels_and_stride(output, size):
                hosts[path] = HostLayer(path, *shape, takes=_channels_and_stride(inputs[0], size) if inputs else None)
                if path.isdigit():
                    rows.append(output.shape[2])

        return hook

    body = layers[:-1]
    training = {module: module.training for module in body.modules()}
    handles = [module.register_forward_hook(note(path)) for path, module in body.named_modules() if path]
    weight = next(body.parameters(), torch.empty(0))
    try:
        body.eval()  # batch statistics must not move
        with torch.no_grad():
            _run(list(body), torch.zeros(1, channels, size, size, device=weight.device, dtype=weight.dtype))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return hosts, min(rows)


def _channels_and_stride(value: Any, size: int) -> tuple[int, int] | None:
    if isinstance(value, Tensor) and value.dim() == 4:
        return value.shape[1], size // value.shape[2]
    return None


def _run(body: Sequence[nn.Module], image: Tensor) -> None:
    outputs: list[Any] = []
    for layer in body:
        before = outputs[-1] if outputs else image
        inputs = [outputs[i] if outputs else image for i in _sources(layer)] if layer.f != -1 else [before]
        try:
            outputs.append(layer(inputs if isinstance(layer.f, list) else inputs[0]))
        except TypeError:
            # Text-conditioned necks (YOLO-World) take a second argument: what comes after them cannot be named.
            return
