"""What a look at one image holds: arrays, each with its axes and units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attngraft.maps import Change, Detection

Array = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Size = tuple[int, int]


@dataclass(frozen=True)
class Attention:
    """What one attention mixed.

    Attributes:
        name: Its path in the model.
        kind: Its class.
        grid: Rows and columns of the map whose cells ask; None where the queries are a decoder's.
        key_grids: Rows and columns of the maps whose values are mixed; their cells follow each other along N.
        rows: The weights of each detection's own cell, ``(D, h, N)``; of a classifier the mean over all cells.
        weighted: Each weight times the derivative of the detection's class score, ``(D, h, N)``; None where there is
            none, and `reason` says why.
        reason: Why there are no weighted rows.
        cells: Flat indices of the cells of the coarser grid, ``(q, r)``; empty for a decoder.
        cell_rows: The weights of those cells, laid on `cell_grid`, ``(q * r, h, M)``.
        cell_grid: Rows and columns of that map, 40 at most.
        box_rows: The mean weights of all cells of each detection's box, ``(D, h, N)``; None for a decoder and a
            classifier. Of a box with many cells, the mean over at most 400 of them, evenly spaced.
        box_weighted: The same of `weighted`.
        box_cells: How many cells lie in each box.
    """

    name: str
    kind: str
    grid: Size | None
    key_grids: tuple[Size, ...]
    rows: Array
    weighted: Array | None
    reason: str
    cells: NDArray[np.int64]
    cell_rows: Array
    cell_grid: Size
    box_rows: Array | None = None
    box_weighted: Array | None = None
    box_cells: tuple[int, ...] = ()


@dataclass(frozen=True)
class Gate:
    """What one gate multiplied its map with.

    Attributes:
        name: Its path in the model.
        kind: Its class.
        channels: The mean over cells, ``(C,)``; one number for a gate that is the same for all channels.
        cells: The mean over channels, ``(H, W)``; one number for a gate that is the same for all cells.
    """

    name: str
    kind: str
    channels: Array
    cells: Array


@dataclass(frozen=True)
class Graft:
    """What one graft does at all.

    Attributes:
        name: Its path in the model.
        gamma: Mean absolute value of its scale; 1 where the graft is in the paper's form, which has none.
        strength: ``|change| / |x|`` over the whole map.
        cells: The same of each cell, ``(H, W)``.
    """

    name: str
    gamma: float
    strength: float
    cells: Array


@dataclass(frozen=True)
class Relevance:
    """What the detections rest on at one layer, by ODAM.

    Attributes:
        layer: Path of the layer.
        targets: ``class`` and the sides of the box, in the order of the maps.
        maps: In the units of the target, ``(D, T, H, W)``; all zero where a target does not depend on the layer.
    """

    layer: str
    targets: tuple[str, ...]
    maps: Array


@dataclass(frozen=True)
class Baseline:
    """The same image in another model.

    Attributes:
        name: The model.
        detections: What it finds.
        changes: What became of its detections in the model that is looked at.
        layer: The layer of `relevance`.
        relevance: ODAM of the class for each detection of the other model, ``(D', H, W)``.
    """

    name: str
    detections: list[Detection]
    changes: list[Change]
    layer: str
    relevance: Array


@dataclass(frozen=True)
class Curves:
    """Deletion and insertion of one detection, ODAM beside maps that know nothing.

    Attributes:
        detection: Which detection.
        layer: The layer of the ODAM map.
        curves: For ``deletion`` and ``insertion``, and each of ``odam``, ``random``, ``gaussian`` and ``box``: the
            score from no pixel changed to all, ``(steps + 1,)``.
        areas: The area under each of them.
        pointing: The share of each map's mass inside the box.
    """

    detection: int
    layer: str
    curves: dict[str, dict[str, Array]]
    areas: dict[str, dict[str, float]]
    pointing: dict[str, float]


@dataclass(frozen=True)
class ImageLook:
    """All that was seen of one image.

    Attributes:
        name: The image's file name, or its number.
        input: The image as the model was given it, ``(H, W, 3)``, red first.
        detections: The detections, the surest first; boxes in pixels of `input`.
        boxes: The same boxes in pixels of the image itself, ``(D, 4)``.
        left_out: How many detections more there were.
        attentions: What was mixed.
        gates: What was scaled.
        grafts: What the grafts do.
        relevance: What the detections rest on, a layer each.
        causal: By the path of a graft that is left out, or ``all``: what became of each detection.
        baseline: The same image in the model of ``base=``.
        curves: Scores of the maps, where they were asked for.
    """

    name: str
    input: Bytes
    detections: list[Detection]
    boxes: Array
    left_out: int
    attentions: list[Attention]
    gates: list[Gate]
    grafts: list[Graft]
    relevance: list[Relevance]
    causal: dict[str, list[Change]] = field(default_factory=dict)
    baseline: Baseline | None = None
    curves: list[Curves] = field(default_factory=list)

    def arrays(self) -> Iterator[tuple[str, NDArray[np.generic]]]:
        """Yield every array with its name, as ``.npz`` files have it."""
        yield "input", self.input
        yield "boxes", self.boxes
        yield "labels", np.array([d.label for d in self.detections], np.int64)
        yield "scores", np.array([d.score for d in self.detections], np.float32)
        for attention in self.attentions:
            yield f"{attention.name}/rows", attention.rows
            yield f"{attention.name}/cells", attention.cells
            yield f"{attention.name}/cell_rows", attention.cell_rows
            for what in ("weighted", "box_rows", "box_weighted"):
                if (array := getattr(attention, what)) is not None:
                    yield f"{attention.name}/{what}", array
        for gate in self.gates:
            yield f"{gate.name}/gate_channels", gate.channels
            yield f"{gate.name}/gate_cells", gate.cells
        for graft in self.grafts:
            yield f"{graft.name}/strength", np.float32(graft.strength)[None]
            yield f"{graft.name}/strength_cells", graft.cells
        for relevance in self.relevance:
            yield f"{relevance.layer}/odam", relevance.maps
        for without, changes in self.causal.items():
            yield f"without {without}", np.array([(c.score, c.iou) for c in changes], np.float32).reshape(-1, 2)
        for curves in self.curves:
            for direction, found in curves.curves.items():
                for method, curve in found.items():
                    yield f"{direction}/{curves.detection}/{method}", curve
