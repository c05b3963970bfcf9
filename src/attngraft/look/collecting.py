"""Collects what `attngraft.maps` says of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from attngraft import maps
from attngraft._core.progress import Progress
from attngraft.look.arrays import Baseline, Curves, ImageLook, Relevance
from attngraft.look.images import Pixels
from attngraft.look.mixing import array, mixed
from attngraft.maps import Detection
from attngraft.maps.scores import CONTROLS, Direction, area_under, control, curve, pointing
from attngraft.maps.subject import Subject

SCORED = 3
"""Detections of an image whose maps are scored."""
STEPS = 10


@dataclass(frozen=True)
class Settings:
    """What is asked of every image.

    Attributes:
        imgsz: Side of the input, or its height and width; None takes the model's own.
        confidence: Least score of a detection.
        limit: Most detections of an image.
        layers: Layers of ODAM; empty for those that the head reads and those before attentions.
        scores: Whether to score maps by deletion and insertion.
    """

    imgsz: int | tuple[int, int] | None = None
    confidence: float = 0.25
    limit: int = 10
    layers: tuple[str, ...] = ()
    scores: bool = False


def collect(
    watched: Subject,
    name: str,
    image: Pixels,
    settings: Settings,
    progress: Progress,
    base: tuple[str, Subject] | None = None,
) -> ImageLook:
    """Look at one image.

    Args:
        watched: The model.
        name: The image's name.
        image: The image.
        settings: What is asked.
        progress: Whom to tell.
        base: Another model and its name, to put beside.

    Raises:
        MapError: If the model has nothing to show, or no such layer.
    """
    progress.started(f"{name}: detecting")
    prepared = watched.prepare(image, settings.imgsz)
    tensor = prepared.tensor
    found = watched.find(tensor, confidence=settings.confidence)[0]
    detections = found[: settings.limit]
    if not detections and watched.names:
        progress.line(
            f"{name}: no detection scores {settings.confidence} or more, so only what was mixed is shown; "
            "lower confidence="
        )
    progress.started(f"{name}: what was mixed")
    attentions, gates, grafts = mixed(watched, tensor, detections)
    progress.started(f"{name}: what {len(detections)} detections rest on")
    mechanisms = [a.name for a in attentions] + [g.name for g in gates]
    layers = settings.layers or tuple(dict.fromkeys([*watched.layers_before(mechanisms), *watched.layers]))
    relevance = _relevance(watched, tensor, detections, layers)
    return ImageLook(
        name=name,
        input=_bytes(tensor),
        detections=detections,
        boxes=np.array([prepared.back(d.box) for d in detections], np.float32).reshape(-1, 4),
        left_out=len(found) - len(detections),
        attentions=attentions,
        gates=gates,
        grafts=grafts,
        relevance=relevance,
        causal=_causal(watched, tensor, settings.confidence, found, [graft.name for graft in grafts]),
        baseline=None if base is None else _baseline(*base, image, tensor, found, settings, progress),
        curves=_curves(watched, tensor, detections, relevance, name, progress) if settings.scores else [],
    )


def _relevance(
    watched: Subject, tensor: Tensor, detections: Sequence[Detection], layers: Sequence[str]
) -> list[Relevance]:
    if not detections:
        with maps.activations(watched.network, layers):  # an unknown layer is an error here too
            return []
    names = ("class",) if watched.task == "classify" else ("class", *maps.SIDES)
    targets = [d.target(name) for d, name in product(detections, names)]  # type: ignore[arg-type]
    with watched.only(detections):
        found = maps.odam(watched.network, watched.predict, tensor, targets, layers, allow_unused=True)
    shape = (len(detections), len(names))
    return [Relevance(layer, names, array(found[layer].reshape(*shape, *found[layer].shape[1:]))) for layer in layers]


def _causal(
    watched: Subject, tensor: Tensor, confidence: float, before: Sequence[Detection], grafts: Sequence[str]
) -> dict[str, list[maps.Change]]:
    """Leave out each graft, and all of them where there are several."""
    asked: dict[str, list[str]] = {name: [name] for name in grafts}
    if len(grafts) > 1:
        asked["all"] = list(grafts)
    changes = {}
    for name, left_out in asked.items():
        with maps.without(watched.network, left_out):
            after = watched.find(tensor, confidence=confidence)[0]
        changes[name] = maps.compare(before, after)
    return changes


def _baseline(
    name: str,
    base: Subject,
    image: Pixels,
    tensor: Tensor,
    found: Sequence[Detection],
    settings: Settings,
    progress: Progress,
) -> Baseline:
    """Look for the same detections in another model, which is given the very same tensor."""
    progress.started(f"beside it: {name}")
    own = base.prepare(image, settings.imgsz).tensor  # an R-CNN notes how far the image reaches in its padding
    tensor = _with_channels(tensor, own.shape[1])
    detections = base.find(tensor, confidence=settings.confidence)[0]
    layer = next(iter(base.layers), "")
    relevance = torch.zeros(0, 1, 1)
    if detections[: settings.limit]:
        targets = [d.target() for d in detections[: settings.limit]]
        with base.only(detections[: settings.limit]):
            relevance = maps.odam(base.network, base.predict, tensor, targets, [layer], allow_unused=True)[layer]
    return Baseline(name, detections, maps.compare(detections, found), layer, array(relevance))


def _curves(
    watched: Subject,
    tensor: Tensor,
    detections: Sequence[Detection],
    relevance: Sequence[Relevance],
    name: str,
    progress: Progress,
) -> list[Curves]:
    """Score the class maps of the first detections, at the first layer that the head reads."""
    size = (int(tensor.shape[2]), int(tensor.shape[3]))
    asked = next((r for r in relevance if r.layer in watched.layers[:1]), relevance[0] if relevance else None)
    scored = []
    for index, detection in enumerate(detections[:SCORED]):
        assert asked is not None
        progress.started(f"{name}: scoring the map of detection {index + 1} of {min(SCORED, len(detections))}")
        heat = torch.from_numpy(asked.maps[index, 0])
        grid = (int(heat.shape[0]), int(heat.shape[1]))
        heats = {"odam": heat, **{kind: control(kind, detection, size, grid, seed=index) for kind in CONTROLS}}
        directions: tuple[Direction, ...] = ("deletion", "insertion")
        found = {
            direction: {
                method: curve(watched.predict, tensor[0], detection, one.to(tensor), direction=direction, steps=STEPS)
                for method, one in heats.items()
            }
            for direction in directions
        }
        scored.append(
            Curves(
                index,
                asked.layer,
                {direction: {m: array(c) for m, c in of.items()} for direction, of in found.items()},
                {direction: {m: area_under(c) for m, c in of.items()} for direction, of in found.items()},
                {m: pointing(one, detection, size) for m, one in heats.items() if float(one.max()) > 0},
            )
        )
    return scored


def _with_channels(tensor: Tensor, channels: int) -> Tensor:
    """Return images of 1 or 3 channels as a model takes them that has the other number."""
    if tensor.shape[1] <= channels:
        return tensor.expand(-1, channels, -1, -1)
    weights = tensor.new_tensor([0.299, 0.587, 0.114])  # those of OpenCV
    return torch.einsum("bchw,c->bhw", tensor, weights)[:, None]


def _bytes(tensor: Tensor) -> Pixels:
    coloured = tensor[0].expand(3, -1, -1)  # a grayscale model is given one channel
    scaled = coloured.detach().float().clamp(0, 1).mul(255).round().permute(1, 2, 0)
    return scaled.to("cpu", torch.uint8).contiguous().numpy()
