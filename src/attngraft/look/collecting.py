"""Collects what `attngraft.maps` says of one image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attngraft import maps
from attngraft._core.errors import MapError
from attngraft._core.progress import Progress
from attngraft.look.arrays import Array, Attention, Baseline, Curves, Gate, Graft, ImageLook, Relevance, Size
from attngraft.look.images import Pixels
from attngraft.maps import Detection, RecordedAttention, RecordedGate
from attngraft.maps.scores import CONTROLS, Direction, area_under, control, curve, pointing
from attngraft.yolo.looking import Watched

COARSE = 20
"""Cells along a side of the grid whose rows are kept; of a map no larger, all cells are."""
CHUNK = 256
"""Cells whose rows are averaged at once."""
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
    watched: Watched,
    name: str,
    image: Pixels,
    settings: Settings,
    progress: Progress,
    base: tuple[str, Watched] | None = None,
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
    prepared = watched.prepare(image, settings.imgsz or watched.imgsz)
    tensor = prepared.tensor
    found = watched.find(tensor, confidence=settings.confidence)[0]
    detections = found[: settings.limit]
    if not detections:
        progress.line(
            f"{name}: no detection scores {settings.confidence} or more, so only what was mixed is shown; "
            "lower confidence="
        )
    progress.started(f"{name}: what was mixed")
    attentions, gates, grafts = _mixed(watched, tensor, detections)
    progress.started(f"{name}: what {len(detections)} detections rest on")
    layers = settings.layers or default_layers(watched, [a.name for a in attentions] + [g.name for g in gates])
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
        baseline=None if base is None else _baseline(*base, tensor, found, settings, progress),
        curves=_curves(watched, tensor, detections, relevance, name, progress) if settings.scores else [],
    )


def default_layers(watched: Watched, names: Sequence[str]) -> tuple[str, ...]:
    """Return the layers of ODAM: those before the first two attentions or gates, and those that the head reads.

    A map behind an attention shows the cells that it wrote to; one before it, those that it read from.

    Args:
        watched: The model.
        names: Paths of its attentions and gates.
    """
    layers: Any = watched.network.model
    before: dict[str, None] = {}
    for name in names:
        match = re.match(r"model\.(\d+)\.", name)
        if match and 0 < int(match[1]) < len(layers) - 1 and layers[int(match[1])].f == -1:
            before[f"model.{int(match[1]) - 1}"] = None
    return tuple(dict.fromkeys([*list(before)[:2], *watched.layers]))


def coarse_cells(grid: Size, most: int = COARSE) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the flat cells in the middle of the parts of a grid, ``(q, r)``: all where no side is above ``most``.

    Example:
        >>> coarse_cells((2, 3)).tolist(), coarse_cells((40, 3))[:2].tolist()
        ([[0, 1, 2], [3, 4, 5]], [[4, 5], [10, 11]])
    """
    step = -(-max(grid) // most)
    rows, columns = (np.minimum(np.arange(0, side, step) + step // 2, side - 1) for side in grid)
    return np.asarray(rows[:, None] * grid[1] + columns, np.int64)


def _mixed(
    watched: Watched, tensor: Tensor, detections: Sequence[Detection]
) -> tuple[list[Attention], list[Gate], list[Graft]]:
    """Record one forward pass with gradients: rows, gates and strengths."""
    grafted = maps.grafts(watched.network)
    with torch.enable_grad(), maps.record(watched.network) as tape:
        if grafted:
            with maps.strength(watched.network) as strengths:
                predictions = watched.predict(tensor.clone().requires_grad_())
        else:
            strengths, predictions = {}, watched.predict(tensor.clone().requires_grad_())
    scores = [d.target().of(predictions) for d in detections]
    attentions = [_attention(a, watched, tensor, detections, scores) for a in tape.attentions.values()]
    gates = [_gate(gate) for gate in tape.gates.values()]
    grafts = [
        Graft(
            name,
            _scale(grafted[name]),
            float(found.ratio()[0]),
            _array(found.per_cell()[0]),
        )
        for name, found in strengths.items()
    ]
    return attentions, gates, grafts


def _scale(graft: Any) -> float:
    return 1.0 if graft.gamma is None else float(graft.gamma.detach().abs().mean())


def _attention(
    attention: RecordedAttention,
    watched: Watched,
    tensor: Tensor,
    detections: Sequence[Detection],
    scores: Sequence[Tensor],
) -> Attention:
    grid = attention.grid
    asked = [_asked(attention, watched, tensor, d) for d in detections]
    rows = [_mean(attention.rows(part) for part in _parts(cells)) for cells in asked]
    heads, N = attention.rows([0]).shape[1], attention.rows([0]).shape[3]
    weighted, reason = _weighted(attention, asked, scores)
    cells = np.zeros((0, 0), np.int64) if grid is None else coarse_cells(grid)
    cell_rows = attention.rows(cells.ravel().tolist())[0].transpose(0, 1) if cells.size else torch.zeros(0, heads, N)
    return Attention(
        attention.name,
        type(attention.module).__name__,
        grid,
        attention.key_grids,
        _array(torch.stack(rows) if rows else torch.zeros(0, heads, N)),
        weighted,
        reason,
        cells,
        _array(cell_rows),
    )


def _asked(attention: RecordedAttention, watched: Watched, tensor: Tensor, detection: Detection) -> list[int]:
    """Return the queries of a detection: its own cell, a decoder's query, all cells of a classifier."""
    grid = attention.grid
    if grid is None:
        return [detection.candidate]
    if watched.task == "classify":
        return list(range(grid[0] * grid[1]))
    return [maps.cell_at(detection.place, (int(tensor.shape[2]), int(tensor.shape[3])), grid)]


def _parts(cells: list[int]) -> Iterator[list[int]]:
    return (cells[start : start + CHUNK] for start in range(0, len(cells), CHUNK))


def _mean(rows: Iterator[Tensor]) -> Tensor:
    """Return the mean row of all queries of the first image, ``(h, N)``."""
    total, count = torch.zeros(()), 0
    for part in rows:
        total = total + part[0].sum(1)
        count += part.shape[2]
    return total / count


def _weighted(
    attention: RecordedAttention, asked: Sequence[list[int]], scores: Sequence[Tensor]
) -> tuple[Array | None, str]:
    """Return gradient-weighted rows, or the reason that there are none."""
    try:
        rows = [
            _mean(attention.weighted(score, part) for part in _parts(cells))
            for cells, score in zip(asked, scores, strict=True)
        ]
    except MapError as error:
        return None, str(error)
    return (_array(torch.stack(rows)), "") if rows else (None, "there is no detection whose score could be derived")


def _gate(gate: RecordedGate) -> Gate:
    values = gate.values()[0]  # (C or 1, H or 1, W or 1)
    return Gate(gate.name, type(gate.module).__name__, _array(values.mean((1, 2))), _array(values.mean(0)))


def _relevance(
    watched: Watched, tensor: Tensor, detections: Sequence[Detection], layers: Sequence[str]
) -> list[Relevance]:
    if not detections:
        with maps.activations(watched.network, layers):  # an unknown layer is an error here too
            return []
    names = ("class",) if watched.task == "classify" else ("class", *maps.SIDES)
    targets = [d.target(name) for d, name in product(detections, names)]  # type: ignore[arg-type]
    found = maps.odam(watched.network, watched.predict, tensor, targets, layers, allow_unused=True)
    shape = (len(detections), len(names))
    return [Relevance(layer, names, _array(found[layer].reshape(*shape, *found[layer].shape[1:]))) for layer in layers]


def _causal(
    watched: Watched, tensor: Tensor, confidence: float, before: Sequence[Detection], grafts: Sequence[str]
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
    name: str, base: Watched, tensor: Tensor, found: Sequence[Detection], settings: Settings, progress: Progress
) -> Baseline:
    progress.started(f"beside it: {name}")
    detections = base.find(tensor, confidence=settings.confidence)[0]
    layer = base.layers[0]
    relevance = torch.zeros(0, 1, 1)
    if detections[: settings.limit]:
        targets = [d.target() for d in detections[: settings.limit]]
        relevance = maps.odam(base.network, base.predict, tensor, targets, [layer], allow_unused=True)[layer]
    return Baseline(name, detections, maps.compare(detections, found), layer, _array(relevance))


def _curves(
    watched: Watched,
    tensor: Tensor,
    detections: Sequence[Detection],
    relevance: Sequence[Relevance],
    name: str,
    progress: Progress,
) -> list[Curves]:
    """Score the class maps of the first detections, at the finest layer that the head reads."""
    size = (int(tensor.shape[2]), int(tensor.shape[3]))
    asked = next((r for r in relevance if r.layer == watched.layers[0]), relevance[0] if relevance else None)
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
                {direction: {m: _array(c) for m, c in of.items()} for direction, of in found.items()},
                {direction: {m: area_under(c) for m, c in of.items()} for direction, of in found.items()},
                {m: pointing(one, detection, size) for m, one in heats.items() if float(one.max()) > 0},
            )
        )
    return scored


def _array(tensor: Tensor) -> Array:
    return tensor.detach().to("cpu", torch.float32).numpy()


def _bytes(tensor: Tensor) -> Pixels:
    scaled = tensor[0].detach().float().clamp(0, 1).mul(255).round().permute(1, 2, 0)
    return scaled.to("cpu", torch.uint8).contiguous().numpy()
