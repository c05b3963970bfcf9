"""Join mechanisms to a built model in place, so that no index moves and no stock tensor is renamed."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import CheckpointError, ModelYamlError, PlaceError
from attngraft._core.registry import fitted, mechanism_of
from attngraft.yolo.arguments import copied_defaults, warn_of_disputes
from attngraft.yolo.grafting import HOOK_KEY, BoTConv, Graft, TokenEncoder, apply_grafts
from attngraft.yolo.placing import CHILD, REPLACED, REPLACEMENT, HostLayer, Layout, layout
from attngraft.yolo.recipe import GraftSpec, print_grafts
from attngraft.yolo.rows import YAML_KEY, BlockRow

START = "attngraft_start"
"""Attribute of a host model: the tensors that grafting drew, by name, and a checksum of them as they were drawn."""

log = logging.getLogger("ultralytics")


def attach(layers: nn.Sequential, specs: Iterable[GraftSpec], *, backbone: int, channels: int) -> list[str]:
    """Join grafts to a built model, in place.

    Random numbers are drawn on a fork of the generator: what Ultralytics draws afterwards is what it would have drawn
    without grafts, so arms of a study with one seed see the same images in the same order.

    Args:
        layers: The model's layers as Ultralytics built them.
        specs: What to join.
        backbone: How many layers the YAML lists as the backbone.
        channels: Channels of the image.

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
                expand = [place] if spec.mode == "bot" else offered.expand(place)
                said += [_JOIN[spec.mode](layers, spec, one, offered) for one in expand]
                if spec.mode != "after":
                    offered = layout(layers, backbone, channels)  # what stood there is gone
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
    before, drawn = model.state_dict(), untrained(model)
    for line in attach(layers, specs, backbone=backbone, channels=description.get("channels", 3)):
        log.info(line)
    for norm in layers.modules():
        # Detectors get Ultralytics' own eps and momentum after they are built, classifiers keep PyTorch's.
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps, norm.momentum = host_norm.eps, host_norm.momentum
    earlier = description.get(YAML_KEY)
    description[YAML_KEY] = "+".join(filter(None, [earlier, print_grafts(specs)]))
    after = model.state_dict()
    drawn |= {name for name, value in after.items() if name not in before or not value.is_set_to(before[name])}
    names = sorted(drawn & after.keys())
    setattr(model, START, (names, _checksum(after, names)))


def untrained(model: nn.Module) -> set[str]:
    """Name the tensors of a model that grafting drew at random; none once any of them was changed or trained.

    Args:
        model: A host model such as ``DetectionModel``.
    """
    names, drawn = getattr(model, START, ([], 0))
    now = model.state_dict()
    return set(names) if all(name in now for name in names) and _checksum(now, names) == drawn else set()


def of_another(model: nn.Module, source: nn.Module) -> dict[str, list[str]]:
    """Name the grafts of a model in whose place another model has another mechanism, and the tensors of each.

    Args:
        model: A host model such as ``DetectionModel``.
        source: Another one.
    """
    theirs = {path: part.mechanism for path, part in source.named_modules() if isinstance(part, Graft)}
    return {
        path: [f"{path}.{name}" for name in part.state_dict()]
        for path, part in model.named_modules()
        if isinstance(part, Graft)
        and path in theirs
        and mechanism_of(type(part.mechanism)) is not mechanism_of(type(theirs[path]))
    }


def _checksum(state: Mapping[str, Tensor], names: Iterable[str]) -> int:
    total = 0
    for name in names:
        total = zlib.crc32(state[name].detach().cpu().flatten().view(torch.uint8).numpy().tobytes(), total)
    return total


def join_blocks(layers: nn.Sequential, blocks: Iterable[BlockRow], *, backbone: int, channels: int) -> list[str]:
    """Put mechanisms into blocks that rows such as ``C2f_EMA`` name, in place and without a gate of ours.

    The mechanism stands where the copied blocks have it: at the end of each bottleneck, ``x + f(cv2(cv1(x)))``, or in
    the place of the attention where a block is made of that (C2PSA, A2C2f).

    Args:
        layers: The model's layers as Ultralytics built them.
        blocks: Which blocks, and with what inside.
        backbone: How many layers the YAML lists as the backbone.
        channels: Channels of the image.

    Returns:
        One line a block.

    Raises:
        ModelYamlError: If a block has neither bottlenecks nor attention inside.
        OptionError: If a mechanism cannot be built at that width.
    """
    offered = layout(layers, backbone, channels)
    said = []
    for block in blocks:
        layer = str(block.index)
        inside = offered.within([layer])
        if not inside:
            raise ModelYamlError(
                f"row {layer} names {block.name}, and {offered.classes.get(layer)} has neither bottlenecks nor "
                f"attention inside; put a row [-1, 1, {block.record.cls.__name__}, []] after it instead"
            )
        warn_of_disputes(block.record, block.called, block.options)
        for path in inside:
            _join_bare(layers, _spec(block, path, offered), path, offered)
        layers[block.index].np = sum(p.numel() for p in layers[block.index].parameters())  # type: ignore[assignment]
        where = "in place of the attention" if inside[0] in offered.attention else "at the end of the bottlenecks"
        said.append(f"attngraft: {block.record.name} {where} {', '.join(inside)} ({block.name})")
    return said


def _spec(block: BlockRow, path: str, offered: Layout) -> GraftSpec:
    """Return what a block's row puts at a path: its options, and for the others the defaults of the copied class."""
    host = offered.hosts.get(path) or offered.hosts[path.rpartition(".")[0]]
    defaults = copied_defaults(block.record, block.called, host.channels, block.options)
    return GraftSpec(block.record.name, (path,), tuple(sorted({**defaults, **block.options}.items())))


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
    has_factor = identity and not spec.record.starts_as_identity
    graft = Graft(mechanism, host.channels, spec.record.role, identity=has_factor)
    layer = layers.get_submodule(host.path)
    _adopt(graft, layer)
    _follow(layer, graft)
    start = "identity at the start" if identity else "in the paper's form"
    return _describe(f"{spec.name} after {_where(host, place, layer)}", graft, f"{start}{note}")


def _join_bare(layers: nn.Sequential, spec: GraftSpec, path: str, offered: Layout) -> None:
    """Let a mechanism alone follow the end of a bottleneck, or replace an attention."""
    if path in offered.attention:
        _join_instead(layers, spec, path, offered)
        return
    layer = layers.get_submodule(path)
    mechanism, _ = build(spec, offered.find(path).channels)
    _adopt(mechanism, layer)
    _follow(layer, mechanism)


def _follow(layer: nn.Module, graft: nn.Module) -> None:
    """Let a module run on what a layer gives."""
    if not hasattr(layer, CHILD):
        layer.add_module(CHILD, nn.Sequential())
        if type(layer).forward is not nn.Sequential.forward:  # which runs every child itself, ours as the last
            layer._forward_hooks[HOOK_KEY] = apply_grafts  # type: ignore[index]
    getattr(layer, CHILD).append(graft)


def _join_instead(layers: nn.Sequential, spec: GraftSpec, place: str, offered: Layout) -> str:
    if place in offered.attention and place not in offered.hosts:
        return _join_in_encoder(layers, spec, place.rpartition(".")[0], offered)
    host = offered.find(place)
    old = layers.get_submodule(host.path)
    if host.takes is None:
        raise PlaceError(f"{spec.name} cannot replace {place}: it takes more than one map")
    if host.takes != (host.channels, host.stride):
        raise PlaceError(
            f"{spec.name} cannot replace {place}: it takes {host.takes[0]} channels at stride {host.takes[1]} and "
            f"gives {host.channels} at stride {host.stride}; replace a module that keeps both"
        )
    _require_no_graft(layers, spec, host.path)
    mechanism, note = build(spec, host.channels)
    _put(layers, host.path, mechanism, spec.name)
    return _describe(f"{spec.name} in place of {_where(host, place, old)}", mechanism, f"random start{note}")


def _join_in_encoder(layers: nn.Sequential, spec: GraftSpec, path: str, offered: Layout) -> str:
    """Replace the attention of a transformer encoder layer, which is given tokens, by one that is given the map."""
    layer, host = layers.get_submodule(path), offered.hosts.get(path)
    if host is None or not all(isinstance(getattr(layer, part, None), nn.Module) for part in TokenEncoder.PARTS):
        raise PlaceError(
            f"{spec.name} cannot replace the attention of {path} ({type(layer).__name__}): only that of an encoder "
            "layer on a map, such as AIFI, can be replaced; replace the layer itself"
        )
    _require_no_graft(layers, spec, path)
    mechanism, note = build(spec, host.channels)
    _adopt(mechanism, layer)
    _put(layers, path, TokenEncoder(mechanism, layer), spec.name)
    return _describe(
        f"{spec.name} in place of the attention of {_where(host, path, layer)}", mechanism, f"random start{note}"
    )


def _require_no_graft(layers: nn.Sequential, spec: GraftSpec, path: str) -> None:
    """Refuse to replace a module together with a graft that stands in it, or follows it or something inside it."""
    old = layers.get_submodule(path)
    for carrier, part in old.named_modules(prefix=path):
        if hasattr(part, REPLACEMENT):
            raise PlaceError(
                f"{spec.name} cannot replace {path}: {getattr(part, REPLACEMENT)} stands in {carrier} by an earlier "
                "replacement, and would be lost; leave one of the two out"
            )
        if CHILD in dict(part.named_children()):
            raise PlaceError(
                f"{spec.name} cannot replace {path}: the graft after {carrier} would be lost with it; write the "
                f"replacement first, and what follows {path} after it"
            )


def _put(layers: nn.Sequential, path: str, new: nn.Module, name: str) -> None:
    """Put a module in the place of another, with Ultralytics' notes on it, and ours: mechanism and former class."""
    old = layers.get_submodule(path)
    _adopt(new, old)
    setattr(new, REPLACEMENT, name)
    setattr(new, REPLACED, getattr(old, REPLACED, type(old).__name__))
    for attribute in ("i", "f", "type"):
        if hasattr(old, attribute):
            setattr(new, attribute, getattr(old, attribute))
    layers.set_submodule(path, new)


def _join_bot(layers: nn.Sequential, spec: GraftSpec, place: str, offered: Layout) -> str:
    host = offered.find(place)
    of_stage = place in offered.named and place.startswith("P")  # a number or a name of the neck means one layer
    found = _bottleneck_convs(layers, host, offered, of_stage=of_stage)
    if not found:
        where = f"at stride {host.stride} of this backbone" if of_stage else f"in layer {host.path}"
        raise PlaceError(
            f"bot@{place} replaces the 3x3 convolutions of bottlenecks, and there are none {where}; use mhsa@{place} "
            "instead"
        )
    for path, conv in found:
        _require_no_graft(layers, spec, path)
        inner: nn.Conv2d = conv.conv  # type: ignore[assignment]
        mechanism, _ = build(spec, inner.out_channels)
        block = BoTConv(mechanism, inner.out_channels, conv.act, inner.stride[0])  # type: ignore[arg-type]
        _put(layers, path, block, "bot")
    count = len(found)
    return f"attngraft: bot in place of {count} 3x3 convolution{'s'[: count > 1]} at {', '.join(p for p, _ in found)}"


_JOIN = {"after": _join_after, "replace": _join_instead, "bot": _join_bot}


def _bottleneck_convs(
    layers: nn.Sequential, layer: HostLayer, offered: Layout, *, of_stage: bool
) -> list[tuple[str, nn.Module]]:
    """Find the 3x3 convolution that BoTNet replaces in every bottleneck of a layer, or of the stage that ends with it.

    Told by structure: the second convolution of a block with a shortcut, 3x3, dense, of as many channels as it takes.
    """
    last = int(layer.path.split(".")[0])
    found = []
    for end in offered.bottlenecks:
        path = f"{end.rpartition('.')[0]}.cv2"
        host = offered.hosts.get(path)
        if host is None:
            continue
        stands = host.stride == layer.stride and int(path.split(".")[0]) <= last
        if not (stands if of_stage else f"{path}.".startswith(f"{layer.path}.")):
            continue
        module = layers.get_submodule(path)
        conv = getattr(module, "conv", None)
        if not isinstance(conv, nn.Conv2d) or not hasattr(module, "act"):
            continue
        dense = conv.in_channels == conv.out_channels and conv.groups == 1
        if conv.kernel_size == (3, 3) and dense and conv.stride in ((1, 1), (2, 2)):
            found.append((path, module))
    return found


def _adopt(new: nn.Module, old: nn.Module) -> None:
    """Give a new module the device, dtype and mode of the module that it joins."""
    weight = next(old.parameters(), None)
    if weight is not None:
        new.to(device=weight.device, dtype=weight.dtype)
    new.train(old.training)


def _where(host: HostLayer, place: str, layer: nn.Module) -> str:
    return f"{host.path} ({place}, {type(layer).__name__}, {host.channels} channels, stride {host.stride})"


def _describe(what: str, module: nn.Module, rest: str) -> str:
    return f"attngraft: {what}, {sum(p.numel() for p in module.parameters()):,} parameters, {rest}"
