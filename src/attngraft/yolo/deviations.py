"""How far an exported detector is from its model: boxes in pixels, scores, and the rest, on given pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from attngraft._core.calls import tensors
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


def reference(network: Any) -> nn.Module:
    """Return a model as the host's exporter sees it: fused, on the CPU, and giving what a file gives."""
    module: Any = deepcopy(network).float().cpu().eval()
    module = module.fuse(verbose=False)
    for part in module.modules():
        if hasattr(part, "export"):
            part.export = True
    return module


def compare(network: Any, run: Run, inputs: Iterable[Tensor], precision: Precision) -> Deviation:
    """Run pictures through a model and through its file.

    Args:
        network: The host's model.
        run: Runs the file on one batch.
        inputs: Batches of pictures, of one size each.
        precision: Of the file's numbers; names the bound.

    Returns:
        The largest deviation of each part; a file that fails on an input is a finding, not an exception.

    Raises:
        MissingExtraError: If what runs the file is not installed.
    """
    module, classes, bounds = reference(network), len(network.names), BOUNDS[precision]

    def expect(x: Tensor) -> list[Array]:
        with torch.no_grad():
            return [y.numpy() for y in tensors(module(x))]

    return furthest(
        expect,
        run,
        inputs,
        pair=lambda expected, actual: pairs(expected, actual, classes, precision),
        bound=lambda name: bounds.get(name, bounds[""]),
    )


def pairs(expected: Sequence[Array], actual: Sequence[Array], classes: int, precision: Precision) -> Pairs:
    """Cut the outputs of a model and of its file into parts that have a unit, in the same order.

    Args:
        expected: The model's outputs.
        actual: The file's, of the same shapes.
        classes: How many classes there are.
        precision: Quantized numbers are compared at sure detections only, or at all scores where there is none.
    """
    first, second = expected[0], actual[0]
    rest = {f"output {index}": pair for index, pair in enumerate(zip(expected, actual, strict=True)) if index}
    if first.ndim == 2:
        return {"scores": (first, second), **rest}
    if first.ndim != 3:
        return {"output 0": (first, second), **rest}
    if first.shape[2] in (6, 4 + classes) and first.shape[1] != 4 + classes:
        return {**_sorted_rows(first, second), **rest}
    first, second = first.swapaxes(1, 2), second.swapaxes(1, 2)  # (B, cells, 4 + classes + more)
    if precision == "int8":
        sure = first[..., 4 : 4 + classes].max(-1) >= SURE
        if not sure.any():
            return {"scores": (first[..., 4 : 4 + classes], second[..., 4 : 4 + classes])}
        first, second, rest = first[sure], second[sure], {}
    cuts = {"boxes": slice(4), "scores": slice(4, 4 + classes), "other channels": slice(4 + classes, None)}
    return {name: (first[..., cut], second[..., cut]) for name, cut in cuts.items() if first[..., cut].size} | rest


def _sorted_rows(first: Array, second: Array) -> Pairs:
    """Match rows that come sorted by score, where an equal score may swap two of them."""
    scores = (first[..., 4:5], second[..., 4:5]) if first.shape[2] == 6 else (first[..., 4:], second[..., 4:])
    ranked = [np.sort(score.max(-1), axis=1) for score in scores]
    boxes: list[tuple[Array, Array]] = []
    for wanted, got, sure in zip(first, second, scores[0].max(-1) >= SURE, strict=True):
        for row in wanted[sure]:
            same = got[got[:, 5] == row[5]] if first.shape[2] == 6 else got
            if len(same):
                boxes.append((row[:4], same[np.abs(same[:, :4] - row[:4]).max(1).argmin(), :4]))
    found = {"scores": (ranked[0], ranked[1])}
    if boxes:
        found["boxes"] = (np.stack([one for one, _ in boxes]), np.stack([other for _, other in boxes]))
    return found
