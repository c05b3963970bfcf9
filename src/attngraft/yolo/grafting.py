"""The graft itself: a mechanism joined to a layer in place, so that no index moves and no stock tensor is renamed.

A grafted layer keeps its class, its index and its keys. It gains one child, ``grafts``, and one forward hook under a
string key; both survive pickle, deepcopy, fuse, tracing and a rebuild, because the recipe stands in the model's YAML.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import CheckpointError, PlaceError
from attngraft._core.registry import Role, fitted
from attngraft.yolo.placing import Host, Layout, layout
from attngraft.yolo.recipe import GraftSpec, print_grafts
from attngraft.yolo.rows import YAML_KEY

CHILD = "grafts"
# PyTorch numbers its hooks from 0 in every process, so a pickled number would be overwritten by the next hook there.
HOOK_KEY = "attngraft"

log = logging.getLogger("ultralytics")

BOTTLENECKS = ("Bottleneck", "RepNBottleneck")
"""The host's classes whose ``cv2`` is the 3x3 convolution that BoTNet replaces."""


class Graft(nn.Module):
    """A mechanism that starts as the identity, or in its paper's form.

    A mixer is added, ``x + gamma * f(x)``; a gate is blended, ``x + gamma * (f(x) - x)``. With ``gamma`` at zero the
    output equals the input bit for bit. In the paper's form a mixer is ``x + f(x)``, a gate ``f(x)``, without gamma.

    Args:
        mechanism: The module, ``(B, C, H, W)`` to the same shape.
        channels: Number of channels C.
        role: ``mixer`` or ``gate``.
        identity: Whether to start as the identity.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``
    """

    def __init__(self, mechanism: nn.Module, channels: int, role: Role, *, identity: bool = True) -> None:
        super().__init__()
        self.mechanism = mechanism
        self.role = role
        self.gamma = nn.Parameter(torch.zeros(channels)) if identity else None

    def forward(self, x: Tensor) -> Tensor:
        """Return the map with the mechanism joined to it."""
        y: Tensor = self.mechanism(x)
        if self.gamma is None:
            return x + y if self.role == "mixer" else y
        change = y if self.role == "mixer" else y - x
        return x + self.gamma[:, None, None] * change


class BoTConv(nn.Module):
    """BoTNet's stand-in for a 3x3 convolution: attention, batch norm, activation.

    Source: the BoT block of arXiv 2101.11605, between its two 1x1 convolutions.

    Args:
        mechanism: The attention.
        channels: Number of channels C.
        act: The activation of the convolution whose place it takes.
    """

    def __init__(self, mechanism: nn.Module, channels: int, act: nn.Module) -> None:
        super().__init__()
        self.mechanism = mechanism
        self.norm = nn.BatchNorm2d(channels)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Return the attended, normalised and activated map."""
        y: Tensor = self.act(self.norm(self.mechanism(x)))
        return y


def apply_grafts(layer: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    """Forward hook of a grafted layer: pass its output through its grafts, in order."""
    grafted: Tensor = getattr(layer, CHILD)(output)
    return grafted


def attach(layers: nn.Sequential, specs: Iterable[GraftSpec], *, backbone: int, channels: int) -> list[str]:
    """Join grafts to a built model, in place.

    Random numbers are drawn on a fork of the generator: what the host draws afterwards is what it would have drawn
    without grafts, so arms of a study with one seed see the same pictures in the same order.

    Args:
        layers: The model's layers as the host built them.
        specs: What to join.
        backbone: How many layers the YAML lists as the backbone.
        channels: Channels of the picture.

    Returns:
        One line a graft, saying what was joined where and what it costs.

    Raises:
        PlaceError: If the model lacks a place, or what stands there cannot be replaced.
        OptionError: If a mechanism cannot be built at that width.
    """
    offered = layout(layers, backbone, channels)
    said = []
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        for spec in specs:
            for place in spec.places:
                said.append(_JOIN[spec.mode](layers, spec, place, offered))
    for layer in layers:
        layer.np = sum(p.numel() for p in layer.parameters())  # type: ignore[assignment]
    return said


def graft_model(model: nn.Module, specs: Iterable[GraftSpec]) -> None:
    """Join grafts to a host model in place, and note them in its YAML so that every rebuild finds them.

    Args:
        model: A host model such as ``DetectionModel``, not fused.
        specs: What to join.

    Raises:
        CheckpointError: If the model is fused for inference.
        PlaceError: If the model lacks a place.
        OptionError: If a mechanism cannot be built at that width.
    """
    specs = tuple(specs)
    if model.is_fused():  # type: ignore[operator]
        raise CheckpointError(
            "this model is fused for inference and cannot be grafted; use the checkpoint it came from"
        )
    description: dict[str, Any] = model.yaml  # type: ignore[assignment]
    backbone = len(description["backbone"])
    layers: nn.Sequential = model.model  # type: ignore[assignment]
    host_norm = next(m for m in layers.modules() if isinstance(m, nn.BatchNorm2d))
    for line in attach(layers, specs, backbone=backbone, channels=description.get("channels", 3)):
        log.info(line)
    for norm in layers.modules():
        # Detectors get the host's own eps and momentum after they are built, classifiers keep PyTorch's.
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps, norm.momentum = host_norm.eps, host_norm.momentum
    earlier = description.get(YAML_KEY)
    description[YAML_KEY] = "+".join(filter(None, [earlier, print_grafts(specs)]))


def stripped(model: nn.Module) -> nn.Module:
    """Return a copy of a model without the grafts that follow its layers."""
    bare = copy.deepcopy(model)
    for layer in list(bare.modules()):
        if hasattr(layer, CHILD) and isinstance(getattr(layer, CHILD), nn.Sequential):
            layer._forward_hooks.pop(HOOK_KEY, None)  # type: ignore[call-overload]
            delattr(layer, CHILD)
    return bare


def build(spec: GraftSpec, channels: int) -> tuple[nn.Module, str]:
    """Build a graft's mechanism for a width, and name the options that were fitted to it.

    Args:
        spec: The graft.
        channels: Channels of the map.

    Raises:
        OptionError: If the given options cannot work at that width.
    """
    given = dict(spec.options)
    cls: Any = spec.record.cls
    changed = {key: value for key, value in fitted(cls, channels).items() if key not in given}
    module: nn.Module = cls(channels, **changed, **given)
    note = "".join(f", {key}={value} fitted to {channels} channels" for key, value in changed.items())
    return module, note


def _join_after(layers: nn.Sequential, spec: GraftSpec, place: str, offered: Layout) -> str:
    host = offered.find(place)
    mechanism, note = build(spec, host.channels)
    identity = spec.init == "identity"
    graft = Graft(mechanism, host.channels, spec.record.role, identity=identity)
    layer = layers.get_submodule(host.path)
    _adopt(graft, layer)
    if not hasattr(layer, CHILD):
        layer.add_module(CHILD, nn.Sequential())
        if type(layer).forward is not nn.Sequential.forward:  # which runs every child itself, ours as the last
            layer._forward_hooks[HOOK_KEY] = apply_grafts  # type: ignore[index]
    getattr(layer, CHILD).append(graft)
    start = "identity at the start" if identity else "in the paper's form"
    return _describe(f"{spec.name} after {_where(host, place, layer)}", graft, f"{start}{note}")


def _join_instead(layers: nn.Sequential, spec: GraftSpec, place: str, offered: Layout) -> str:
    host = offered.find(place)
    old = layers.get_submodule(host.path)
    if host.takes is None:
        raise PlaceError(f"{spec.name} cannot replace {place}: it takes more than one map")
    if host.takes != (host.channels, host.stride):
        raise PlaceError(
            f"{spec.name} cannot replace {place}: it takes {host.takes[0]} channels at stride {host.takes[1]} and "
            f"gives {host.channels} at stride {host.stride}; replace a module that keeps both"
        )
    mechanism, note = build(spec, host.channels)
    _adopt(mechanism, old)
    for attribute in ("i", "f", "type"):
        if hasattr(old, attribute):
            setattr(mechanism, attribute, getattr(old, attribute))
    layers.set_submodule(host.path, mechanism)
    return _describe(f"{spec.name} in place of {_where(host, place, old)}", mechanism, f"random start{note}")


def _join_bot(layers: nn.Sequential, spec: GraftSpec, place: str, offered: Layout) -> str:
    stage = offered.find(place)
    found = _bottleneck_convs(layers, stage, offered)
    if not found:
        raise PlaceError(
            f"bot@{place} replaces the 3x3 convolutions of bottlenecks, and there are none at stride {stage.stride} of "
            f"this backbone; use mhsa@{place} instead"
        )
    for path, conv in found:
        channels: int = conv.conv.out_channels  # type: ignore[union-attr, assignment]
        mechanism, _ = build(spec, channels)
        block = BoTConv(mechanism, channels, conv.act)  # type: ignore[arg-type]
        _adopt(block, conv)
        layers.set_submodule(path, block)
    count = len(found)
    return f"attngraft: bot in place of {count} 3x3 convolution{'s'[: count > 1]} at {', '.join(p for p, _ in found)}"


_JOIN = {"after": _join_after, "replace": _join_instead, "bot": _join_bot}


def _bottleneck_convs(layers: nn.Sequential, stage: Host, offered: Layout) -> list[tuple[str, nn.Module]]:
    """Find the second 3x3 convolution of every bottleneck of the backbone stage at this stride."""
    found = []
    for path, module in layers[: int(stage.path.split(".")[0]) + 1].named_modules():
        conv = getattr(module, "cv2", None)
        host = offered.hosts.get(f"{path}.cv2")
        if type(module).__name__ not in BOTTLENECKS or conv is None or host is None or host.stride != stage.stride:
            continue
        kernel = getattr(getattr(conv, "conv", None), "kernel_size", None)
        if kernel == (3, 3) and conv.conv.in_channels == conv.conv.out_channels and conv.conv.groups == 1:
            found.append((f"{path}.cv2", conv))
    return found


def _adopt(new: nn.Module, old: nn.Module) -> None:
    """Give a new module the device, type and mode of the module that it joins."""
    weight = next(old.parameters(), None)
    if weight is not None:
        new.to(device=weight.device, dtype=weight.dtype)
    new.train(old.training)


def _where(host: Host, place: str, layer: nn.Module) -> str:
    return f"{host.path} ({place}, {type(layer).__name__}, {host.channels} channels, stride {host.stride})"


def _describe(what: str, module: nn.Module, rest: str) -> str:
    return f"attngraft: {what}, {sum(p.numel() for p in module.parameters()):,} parameters, {rest}"
