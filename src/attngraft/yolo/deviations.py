"""How far an exported detector is from its model: boxes in pixels, scores, and the rest, on given images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Classify, Detect, RTDETRDecoder

from attngraft._core.calls import mode, tensors
from attngraft.export import Bound, Deviation
from attngraft.export.exported import Array
from attngraft.export.parity import Pairs, Run, furthest

Precision: TypeAlias = Literal["fp32", "fp16", "int8"]

BOUNDS: Mapping[Precision, Mapping[str, Bound]] = {
    "fp32": {"boxes": Bound(absolute=0.1), "scores": Bound(absolute=1e-3), "": Bound(relative=1e-3)},
    "fp16": {"boxes": Bound(absolute=4.0), "scores": Bound(absolute=0.1), "": Bound(relative=5e-2)},
    "int8": {"boxes": Bound(absolute=32.0), "scores": Bound(absolute=0.3), "": Bound(relative=0.5)},
}
"""What passes, boxes in pixels: above what runtimes were seen to differ by, far below a frozen size or a wrong axis."""

SURE = 0.25
"""Score from which a detection counts where rows are sorted by score, or where numbers are quantized."""


HEAD_SETTINGS = ("end2end", "max_det", "agnostic_nms", "xyxy", "dynamic")
"""What the exporter of Ultralytics sets on a head by the options of an export; it decides the form of the outputs."""

CLASS_MAP_SETTINGS = ("format", "bake_argmax")
"""The same of a head that gives each pixel's scores, or its class alone where the format has that done in the file."""


@dataclass(frozen=True)
class Layout:
    """How the first output of a model's head is laid out.

    Attributes:
        kind: ``rows`` of a box, scores and more, sorted by score ``(B, n, ...)``; ``columns``, one for each cell
            ``(B, 4 + classes + more, cells)``; ``scores`` of a whole image ``(B, classes)``; ``maps``, anything else.
        scores: How many scores a row or column has.
        labelled: Whether a row names the class of its one score in the place after it.
    """

    kind: Literal["rows", "columns", "scores", "maps"]
    scores: int = 0
    labelled: bool = False

    @classmethod
    def of(cls, network: Any) -> Layout:
        """Read it from the head, whose shapes may look like another's by chance.

        Args:
            network: Ultralytics' model, as it is run.
        """
        head = network.model[-1]
        if isinstance(head, Classify):
            return cls("scores")
        if isinstance(head, RTDETRDecoder):  # of older releases it gives every score, still in the order of the best
            labelled = hasattr(head, "postprocess")
            return cls("rows", 1 if labelled else head.nc, labelled)
        if not isinstance(head, Detect):
            return cls._seen(network)
        return cls("rows", 1, labelled=True) if head.end2end else cls("columns", head.nc)

    @classmethod
    def _seen(cls, network: Any) -> Layout:
        """Read the layout of a head that is not known from what it gives for two images of different sizes.

        Rows are as many for both, as a decoder's queries are; of columns a larger image has more.
        """
        classes = getattr(network.model[-1], "nc", None)
        channels = network.yaml.get("channels", 3)
        with mode(network, train=False), torch.no_grad():
            small, large = (tensors(network(torch.zeros(1, channels, n, n)))[0].shape for n in (64, 128))
        if classes is None or len(small) != 3:
            return cls("maps")
        if small == large and small[2] in (6, 4 + classes):
            return cls("rows", 1, labelled=True) if small[2] == 6 and classes != 2 else cls("rows", classes)
        if small[1] == large[1] >= 4 + classes and small[2] < large[2]:
            return cls("columns", classes)
        return cls("maps")

    def entries(self, first: Array) -> Array:
        """Return the detections of an output along its second axis, the numbers of one along the third."""
        return first.swapaxes(1, 2) if self.kind == "columns" else first

    def best(self, first: Array) -> Array:
        """Return the best score of each detection, or of the image; `maps` have none."""
        scores: Array = first if self.kind == "scores" else self.entries(first)[..., 4 : 4 + self.scores]
        return scores.max(-1)


@dataclass(frozen=True)
class Comparison:
    """How far a file is from its model, and whether the images could show it.

    Attributes:
        deviation: The largest deviation of each part; None where the file cannot be run.
        sure: Whether the model is sure of anything on any image, that is has a score of `SURE` or more; None where it
            gives no scores.
    """

    deviation: Deviation | None
    sure: bool | None


def reference(network: Any, settings: Mapping[str, Any] | None = None) -> nn.Module:
    """Return a model as the exporter of Ultralytics sees it: fused, on the CPU, and giving what a file gives.

    Args:
        network: Ultralytics' model.
        settings: Attributes of the head that an export sets, of `HEAD_SETTINGS` or `CLASS_MAP_SETTINGS`.
    """
    module: Any = deepcopy(network).float().cpu().eval()
    head = module.model[-1]
    for name, value in (settings or {}).items():
        if getattr(head, name, None) != value:  # a decoder may lack it; of older releases end2end can be read only
            setattr(head, name, value)
    module = module.fuse(verbose=False)
    for part in module.modules():
        if hasattr(part, "export"):
            part.export = True
    return module


def compare(
    network: Any, run: Run, inputs: Iterable[Tensor], precision: Precision, settings: Mapping[str, Any] | None = None
) -> Comparison:
    """Run images through a model and through its file.

    Args:
        network: Ultralytics' model.
        run: Runs the file on one batch.
        inputs: Batches of images, of one size each.
        precision: Of the file's numbers; names the bound.
        settings: Attributes of the head that the export set, of `HEAD_SETTINGS` or `CLASS_MAP_SETTINGS`.

    Raises:
        MissingExtraError: If what runs the file is not installed.
    """
    module = reference(network, settings)
    layout, bounds = Layout.of(module), BOUNDS[precision]
    best: list[float] = []

    def expect(x: Tensor) -> list[Array]:
        with torch.no_grad():
            outputs = [y.numpy() for y in tensors(module(x))]
        if layout.kind != "maps":
            best.append(float(layout.best(outputs[0]).max(initial=0.0)))
        return outputs

    deviation = furthest(
        expect,
        run,
        inputs,
        pair=lambda expected, actual: pairs(expected, actual, layout, precision),
        bound=lambda name: bounds.get(name, bounds[""]),
    )
    return Comparison(deviation, max(best) >= SURE if best else None)


def pairs(expected: Sequence[Array], actual: Sequence[Array], layout: Layout, precision: Precision) -> Pairs:
    """Cut the outputs of a model and of its file into parts that have a unit, in the same order.

    Args:
        expected: The model's outputs.
        actual: The file's, of the same shapes.
        layout: Of the first output.
        precision: Quantized numbers are compared at sure detections only, or at all scores where there is none.
    """
    first, second = expected[0], actual[0]
    others = {f"output {index}": pair for index, pair in enumerate(zip(expected, actual, strict=True)) if index}
    rest = {} if precision == "int8" else others
    if first.dtype.kind in "biu":  # each pixel's class: the share of pixels that have the same one is held against 1
        alike = (first == second).mean(tuple(range(1, first.ndim)))
        return {"pixels": (np.ones_like(alike), alike), **rest}
    if layout.kind in ("scores", "maps"):
        return {"scores" if layout.kind == "scores" else "output 0": (first, second), **rest}
    if layout.kind == "rows":
        ranked = [np.sort(layout.best(output), axis=1) for output in (first, second)]
        return {"scores": (ranked[0], ranked[1]), **_matched(first, second, layout), **rest}
    first, second, cut = layout.entries(first), layout.entries(second), slice(4, 4 + layout.scores)
    if precision == "int8":
        sure = first[..., cut].max(-1) >= SURE
        if not sure.any():
            return {"scores": (first[..., cut], second[..., cut])}
        first, second = first[sure], second[sure]
    return {**_cut(first, second, cut), **rest}


def _cut(first: Array, second: Array, scores: slice) -> Pairs:
    """Cut detections along their last axis."""
    cuts = {"boxes": slice(4), "scores": scores, "other channels": slice(scores.stop, None)}
    return {name: (first[..., cut], second[..., cut]) for name, cut in cuts.items() if first[..., cut].size}


def _matched(first: Array, second: Array, layout: Layout) -> Pairs:
    """Match sure rows with the nearest of the same class, since an equal score may swap two; none is infinitely far."""
    label = 5
    matched: list[tuple[Array, Array]] = []
    for wanted, got, best in zip(first, second, layout.best(first), strict=True):
        for row in wanted[best >= SURE]:
            same = got[np.rint(got[:, label]) == row[label]] if layout.labelled else got
            nearest = same[np.abs(same[:, :4] - row[:4]).max(1).argmin()] if len(same) else np.full_like(row, np.inf)
            matched.append((row, nearest))
    if not matched:
        return {}
    wanted, got = (np.stack(rows) for rows in zip(*matched, strict=True))
    cut = _cut(wanted, got, slice(4, 4 + layout.scores + layout.labelled))
    return {name: pair for name, pair in cut.items() if name != "scores"}
