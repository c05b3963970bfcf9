"""Where a graft can go: from the words of a recipe to the modules of a built model.

Names by stride are found by running a small picture through the layers and looking at what comes out, so they hold
for every family, every scale letter and a user's own YAML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import PlaceError, suggest

PROBE_SIZE = 64
"""Side of the square probe picture, in pixels: two cells at stride 32."""


@dataclass(frozen=True)
class Host:
    """A module that can carry a graft.

    Attributes:
        path: Its path from the model's layers, such as ``10`` or ``8.m.0.cv2``.
        channels: Channels of the map it gives.
        stride: Pixels of the picture to one cell of that map.
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
        named: The host of each name that the model has, such as ``P5`` and ``N4``.
        hosts: Every module that gives one map, by path.
        layers: Number of layers.
    """

    named: dict[str, Host]
    hosts: dict[str, Host]
    layers: int

    def find(self, place: str) -> Host:
        """Return the host of a place.

        Args:
            place: A name, a layer index or a dotted path.

        Raises:
            PlaceError: If the model has no such place; lists those it has.
        """
        if place in self.named:
            return self.named[place]
        if place in self.hosts:
            return self.hosts[place]
        has = f"this model has {', '.join(self.named)}, and layers 0-{self.layers - 1}"
        if place[0] in "PN":
            raise PlaceError(f"this model has no place {place}; {has}")
        if place.isdigit() and int(place) >= self.layers:
            raise PlaceError(f"this model has no layer {place}; {has}")
        if place.isdigit():
            raise PlaceError(f"layer {place} does not give one map (B, C, H, W) that a mechanism could take; {has}")
        inside = [path for path in self.hosts if path.split(".")[0] == place.split(".")[0]]
        raise PlaceError(f"this model has no module {place} that gives one map; {suggest(place, inside)}")


def layout(layers: nn.Sequential, backbone: int, channels: int) -> Layout:
    """Look at a built model and say what it offers.

    Args:
        layers: The model's layers as the host built them, each with ``i`` (index) and ``f`` (where it reads from).
        backbone: How many of them the YAML lists as the backbone.
        channels: Channels of the picture.
    """
    hosts = _probe(layers, channels)
    consumed = {source for layer in layers[backbone:] for source in _sources(layer)}
    named = {}
    # Consumed layers come last so that what the neck reads wins over the last layer of the same stride.
    for index in [*range(backbone), *sorted(i for i in consumed if i < backbone)]:
        host = hosts.get(str(index))
        if host and host.stride >= 8:
            named[_name("P", host.stride)] = host
    head = layers[-1]
    if len(_sources(head)) > 1 or isinstance(head.f, list):
        for index in _sources(head):
            host = hosts.get(str(index))
            if host:
                named[_name("N", host.stride)] = host
    return Layout(dict(sorted(named.items(), key=lambda item: (item[0][0] == "N", item[0]))), hosts, len(layers))


def _name(letter: str, stride: int) -> str:
    return f"{letter}{stride.bit_length() - 1}"


def _sources(layer: Any) -> list[int]:
    """Return the absolute indices of the layers that this one reads."""
    sources: list[int] = layer.f if isinstance(layer.f, list) else [layer.f]
    return [layer.i + source if source < 0 else source for source in sources]


def _probe(layers: nn.Sequential, channels: int) -> dict[str, Host]:
    """Run one small picture through all layers but the head and note every module that gives one map."""
    hosts: dict[str, Host] = {}

    def note(path: str) -> Any:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            if shape := _channels_and_stride(output):
                hosts[path] = Host(path, *shape, takes=_channels_and_stride(inputs[0]) if inputs else None)

        return hook

    body = layers[:-1]
    training = {module: module.training for module in body.modules()}
    handles = [module.register_forward_hook(note(path)) for path, module in body.named_modules() if path]
    weight = next(body.parameters())
    try:
        body.eval()  # batch statistics must not move
        with torch.no_grad():
            _run(list(body), torch.zeros(1, channels, PROBE_SIZE, PROBE_SIZE, device=weight.device, dtype=weight.dtype))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return hosts


def _channels_and_stride(value: Any) -> tuple[int, int] | None:
    if isinstance(value, Tensor) and value.dim() == 4:
        return value.shape[1], PROBE_SIZE // value.shape[2]
    return None


def _run(body: Sequence[nn.Module], picture: Tensor) -> None:
    outputs: list[Any] = []
    for layer in body:
        before = outputs[-1] if outputs else picture
        inputs = [outputs[i] if outputs else picture for i in _sources(layer)] if layer.f != -1 else [before]
        try:
            outputs.append(layer(inputs if isinstance(layer.f, list) else inputs[0]))
        except TypeError:
            # Text-conditioned necks (YOLO-World) take a second argument: what comes after them cannot be named.
            return
