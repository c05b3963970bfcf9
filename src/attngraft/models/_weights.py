"""Weights of one model for another that shares layers with it, with a word on what was taken."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.errors import CheckpointError
from attngraft.attention._positions import resample
from attngraft.attention.mhsa import MHSA

CLASSIFIERS = ("fc", "head", "roi_heads.box_predictor", "roi_heads.mask_predictor", "enlarge")
"""Layers whose shape depends on the classes, or on the scale: taken where it agrees and left where it does not."""

BODY = "backbone.body."
"""Where a detector keeps the layers that it shares with a classifier."""

LEAST = 0.5
"""Part of a model that `load_shared` must fill: a BoTNet's from a ResNet is 0.88, a ResNet's from a BoTNet 0.7."""

CONVERTERS = "from_official of hat, dilateformer, flatten_pvt or flatten_swin in attngraft.models"

COUNT = "num_batches_tracked"
"""What frozen norms do not have, and what nothing depends on."""

TIMM_NAMES = (
    (r"stem\.conv1\.conv", "conv1.0"),
    (r"stem\.conv1\.bn", "conv1.1"),
    (r"stem\.conv2\.conv", "conv1.3"),
    (r"stem\.conv2\.bn", "conv1.4"),
    (r"stem\.conv3\.conv", "conv1.6"),
    (r"stem\.conv3\.bn", "bn1"),
    (r"stages\.(\d)", lambda found: f"layer{int(found[1]) + 1}"),
    (r"\.conv(\d)_(?:1x1|kxk)\.conv", r".conv\1"),
    (r"\.conv(\d)_(?:1x1|kxk)\.bn", r".bn\1"),
    (r"\.shortcut\.conv", ".downsample.0"),
    (r"\.shortcut\.bn", ".downsample.1"),
    (r"\.self_attn\.qkv", ".conv2.attention.qkv"),
    (r"\.self_attn\.pos_embed\.(height|width)_rel", r".conv2.attention.\1_table"),
    (r"\.post_attn", ".bn2"),
    (r"head\.fc", "fc"),
)
"""What timm's ByobNet calls the layers of a BoTNet, and what they are called here."""


@dataclass(frozen=True)
class Shared:
    """What `load_shared` did.

    Attributes:
        taken: Names of the model's tensors that were filled.
        resized: Those among them that are position tables of another size, interpolated.
        missing: The model's tensors that the state does not have; they stay as they were.
        left: The state's tensors that the model has no place for.
    """

    taken: tuple[str, ...]
    resized: tuple[str, ...]
    missing: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        said = f"{len(self.taken)} of {len(self.taken) + len(self.missing)} tensors taken"
        if self.resized:
            said += f", {len(self.resized)} position tables among them resized"
        return f"{said}; {len(self.left)} left over"


def load_shared(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    classifiers: Sequence[str] = CLASSIFIERS,
    least: float = LEAST,
) -> Shared:
    """Fill the layers that a model shares with the one that a state comes from.

    A BoTNet takes all of a torchvision ResNet but the 3x3 convolutions it does not have; a detector takes a
    classifier's state into its backbone. Position tables of another size are resized as their modules resize them.

    Args:
        model: What to fill.
        state: A state dict.
        classifiers: Beginnings of names of layers that may differ in shape, and then stay as they are.
        least: Part of the model's numbers, without the classifiers and what a classifier's state cannot have, that the
            state must fill.

    Returns:
        What was taken and what was not.

    Raises:
        CheckpointError: If less than ``least`` is shared, as with a state of other names, if tensors of one name have
            different shapes, or if a layer would be filled only in part; the model is then as it was.

    Example:
        >>> from attngraft.models import create
        >>> small = {"width": 16, "num_classes": 10}
        >>> print(load_shared(create("botnet50", **small), create("resnet50", **small).state_dict()))
        317 of 326 tensors taken; 3 left over
    """
    own = model.state_dict()
    prefix = BODY if _starts(own, BODY) and not _starts(state, "backbone.") else ""
    given = {prefix + name: value for name, value in state.items()}
    resized = _resize_tables(model, given)
    replaced = {name for name in own if _begins(name, classifiers) and name in given and _differ(own, given, name)}
    for name in sorted(own.keys() & given.keys() - replaced):
        if _differ(own, given, name):
            raise CheckpointError(
                f"{name} has shape {tuple(given[name].shape)} in the state and {tuple(own[name].shape)} in the model; "
                "load the weights of a model of this width and these options"
            )
    taken = [name for name in own if name in given and name not in replaced]
    if not taken:
        raise CheckpointError(
            f"the state shares no tensor with the model: it begins with {next(iter(state), 'nothing')}, "
            f"the model with {next(iter(own))}"
        )
    _check_whole(own, taken)
    _check_enough([name for name in own if name.startswith(prefix)], own, taken, state, classifiers, least)
    model.load_state_dict({name: given[name] for name in taken}, strict=False)
    missing = tuple(name for name in own if name not in taken)
    left = tuple(name for name in state if prefix + name not in taken and not name.endswith(COUNT))
    return Shared(tuple(taken), resized, missing, left)


def load_timm(model: nn.Module, state: Mapping[str, Tensor]) -> Shared:
    """Fill ``botnet26t`` or ``botnet50ts`` with the weights of timm's model of that name.

    timm does not divide position logits by sqrt(d), so its tables are multiplied by it here.

    Args:
        model: What to fill.
        state: The state dict of timm's ``botnet26t_256`` or ``botnet50ts_256``.

    Raises:
        CheckpointError: As `load_shared` does.
    """
    heads = {name: module.heads for name, module in model.named_modules() if isinstance(module, MHSA)}
    translated = {}
    for name, value in state.items():
        for pattern, ours in TIMM_NAMES:
            name = re.sub(pattern, ours, name)
        if name.endswith("_table"):
            value = value[None] * math.sqrt(value.shape[1])  # (1, rows, d)
        elif name.endswith("attention.qkv.weight") and name.removesuffix(".qkv.weight") in heads:
            parts = value.reshape(3, heads[name.removesuffix(".qkv.weight")], -1, *value.shape[1:])
            value = parts.transpose(0, 1).flatten(0, 2)  # (h, 3, d, ...) as rows
        translated[name] = value
    return load_shared(model, translated)


def _resize_tables(model: nn.Module, state: dict[str, Tensor]) -> tuple[str, ...]:
    """Give the state's position tables the model's size, in place; return their names."""
    resized = []
    for path, module in model.named_modules():
        for key, table in module.named_parameters(prefix=path, recurse=False):
            given = state.get(key)
            if given is None or given.shape == table.shape or given.dim() != 3 or given.shape[0] != table.shape[0]:
                continue
            if isinstance(module, MHSA):  # (g, rows, d)
                state[key] = resample(given, table.shape[1])
            elif key.endswith("positions"):  # (C, H, W)
                state[key] = F.interpolate(given[None], table.shape[1:], mode="bilinear", align_corners=False)[0]
            else:
                continue
            resized.append(key)
    return tuple(resized)


def _check_whole(own: Mapping[str, Tensor], taken: Sequence[str]) -> None:
    """Require that each layer is filled as a whole; the count of batches that a norm has seen may be missing."""
    filled = {name.rpartition(".")[0] for name in taken}
    for name in own:
        layer, _, kind = name.rpartition(".")
        if layer in filled and name not in taken and kind != COUNT:
            raise CheckpointError(f"the state fills {layer} only in part: it has no {name}; is it of another model?")


def _check_enough(
    names: Sequence[str],
    own: Mapping[str, Tensor],
    taken: Sequence[str],
    state: Mapping[str, Tensor],
    classifiers: Sequence[str],
    least: float,
) -> None:
    """Require that a state fills a good part of the model: a trained head on random layers is no pretrained model."""
    sizes = {name: own[name].numel() for name in names if not _begins(name, classifiers) and not name.endswith(COUNT)}
    whole, filled = sum(sizes.values()), sum(sizes.get(name, 0) for name in taken)
    if filled < least * whole:
        random = next(name for name in sizes if name not in taken)
        raise CheckpointError(
            f"the state fills only {100 * filled / whole:.1f} % of the model ({len(taken)} of {len(own)} tensors), and "
            f"{random} and others would stay random: the model begins with {next(iter(own))}, the state with "
            f"{next(iter(state))}. Load weights of this model; convert those of its authors with {CONVERTERS}"
        )


def _differ(own: Mapping[str, Tensor], given: Mapping[str, Tensor], name: str) -> bool:
    return own[name].shape != given[name].shape


def _starts(state: Mapping[str, Tensor], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in state)


def _begins(name: str, layers: Sequence[str]) -> bool:
    return name.startswith(tuple(f"{layer}." for layer in layers))
