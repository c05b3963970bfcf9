"""A classifier of `attngraft.models` as the backbone of a host model: ``yolo11n-botnet50.yaml``.

The stock YAML keeps its neck and head, and what pools and attends on its coarsest map (SPPF, C2PSA). The rows before
that become one `Backbone` and a row for each of its maps that the rest reads. Of two stages at one stride the later is
read. BoTNet-S1, which stays at stride 16, is pooled once more for a detector's coarsest map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import OptionError
from attngraft.models import Stages, create, names, record

ROW = "attngraft.Backbone"
"""Name of the backbone's row in a model's YAML."""

POOLS = ("SPP", "SPPF")
"""Modules that end the stages of Ultralytics' backbones, and bring the coarsest map to the neck's width: with what
follows they stay."""

POOL = [-1, 1, "nn.MaxPool2d", [3, 2, 1]]
"""The row of a map that the classifier does not have: half as fine as the one before."""

MOST_LEVELS = 3
IMAGE_SIZE = 640
"""Image size that position tables are made for, which is Ultralytics' default; they serve any size."""


class Backbone(nn.Module):
    """Gives the maps of a classifier's stages.

    Args:
        widths: Ultralytics' list of channels, with those of the image.
        name: The classifier.
        options: Its options.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: a list of ``(B, C_i, H_i, W_i)``, from fine to coarse
    """

    def __init__(self, widths: Sequence[int], name: str, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.body = create(name, num_classes=0, in_channels=widths[-1], **options)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps."""
        maps: list[Tensor] = self.body.forward_features(x)  # type: ignore[operator]
        return maps


def split_name(stem: str) -> tuple[str, str] | None:
    """Split the name of a model into that of its base and that of its backbone.

    Example:
        >>> split_name("yolo11n-botnet50-seg"), split_name("yolo11n-seg")
        (('yolo11n-seg', 'botnet50'), None)
    """
    words = stem.split("-")
    backbones = set(words[1:]) & set(names("classify"))
    if len(backbones) != 1:
        return None
    (backbone,) = backbones
    words.remove(backbone)
    return "-".join(words), backbone


def exchange(model: dict[str, Any], name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Put a classifier in the place of a model's backbone.

    Args:
        model: Ultralytics' YAML as a dictionary; left as it is.
        name: The classifier.
        options: Its options; position tables are made for `IMAGE_SIZE` where it has any and none is given.

    Returns:
        A dictionary whose rows name the classifier, and which builds wherever attngraft is installed.

    Raises:
        UnknownNameError: If there is no such classifier.
        OptionError: If the model reads others than the coarsest maps of its backbone.
    """
    options = dict(options or {})
    if "image_size" in record(name).options:
        options.setdefault("image_size", IMAGE_SIZE)
    rows, head = model["backbone"], model["head"]
    end = next((i for i, row in enumerate(rows) if row[2] in POOLS), len(rows))
    levels = _levels(rows, head, end)
    maps = _maps(name, options, len(levels))
    indices = [[0, 1, "Index", list(level)] for level in maps]
    pools = [POOL] * (len(levels) - len(maps))
    new = [[-1, 1, ROW, ["ch", name, options]], *indices, *pools, *rows[end:]]
    moved = {old: 1 + i for i, old in enumerate(levels[:-1])}
    moved[len(rows) - 1] = len(new) - 1
    return {**model, "backbone": new, "head": _renumbered(head, len(rows), len(new), moved)}


def _levels(rows: list[Any], head: list[Any], end: int) -> list[int]:
    """Return the backbone's rows that the head reads, from fine to coarse; the last row is always one."""
    read = {len(rows) - 1}
    for at, row in enumerate(head, len(rows)):
        read |= {source for source in _absolute(row[0], at) if source < len(rows)}
    levels = sorted(read)
    if len(levels) > MOST_LEVELS or any(level >= end for level in levels[:-1]):
        raise OptionError(
            f"a backbone can be exchanged where its {MOST_LEVELS} coarsest maps are read, and this model reads "
            f"layers {', '.join(map(str, levels))}; use a base such as yolo11n"
        )
    return levels


def _maps(name: str, options: Mapping[str, Any], count: int) -> list[tuple[int, int]]:
    """Return channels and stage of the classifier's maps at the ``count`` coarsest strides, as far as it has them."""
    with torch.device("meta"):
        net = create(name, num_classes=0, **options)
    if not isinstance(net, Stages):
        raise OptionError(f"{name} does not give the maps of its stages; use another backbone, such as botnet50")
    maps = zip(net.channels, net.strides, strict=True)
    latest = {stride: (width, stage) for stage, (width, stride) in enumerate(maps)}
    found = [latest[stride] for stride in (32 >> i for i in reversed(range(count))) if stride in latest]
    return found or [(net.channels[-1], len(net.channels) - 1)]


def _renumbered(head: list[Any], before: int, after: int, moved: Mapping[int, int]) -> list[Any]:
    """Let the head's rows read the same maps from the new backbone."""

    def source(index: int, at: int) -> int:
        absolute = index if index >= 0 else at + index
        if index < 0 and absolute >= before - 1:  # the head's own rows, and the backbone's last
            return index
        return moved[absolute] if absolute < before else absolute - before + after

    renumbered = []
    for at, (sources, *rest) in enumerate(head, before):
        many = [source(index, at) for index in sources] if isinstance(sources, list) else source(sources, at)
        renumbered.append([many, *rest])
    return renumbered


def _absolute(sources: int | list[int], at: int) -> list[int]:
    many = sources if isinstance(sources, list) else [sources]
    return [index if index >= 0 else at + index for index in many]
