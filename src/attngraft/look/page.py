"""The page: one HTML file with its data, styles, script and words in it, that fetches nothing."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from attngraft._core.pages import embedded, filled, part
from attngraft.look.arrays import Attention, Curves, Gate, Graft, ImageLook, Relevance
from attngraft.look.drawn import LEVELS, NEGATIVE, POSITIVE, SIGNED_LEVELS, SIGNED_ZERO, data_url, lay, pack
from attngraft.look.mixing import COARSE
from attngraft.maps import Change, Detection

if TYPE_CHECKING:
    from attngraft.look.result import Look

HERE = Path(__file__).parent
BUDGET = 1_100_000
"""Numbers of the rows that follow the pointer, of all attentions of an image together."""
MOST = 40
"""Cells along a side of a map on the page."""
POINTED = 20
"""The same of the rows that follow the pointer."""


def page(look: Look, *, live: bool = False) -> str:
    """Return the page of a look.

    Args:
        look: The look.
        live: Whether the page asks the server that it came from for rows of single cells.
    """
    data = {
        "model": look.model,
        "base": look.base,
        "task": look.task,
        "language": look.language,
        "live": live,
        "served": live,
        "boxMost": COARSE**2,
        "palette": {"positive": POSITIVE, "negative": NEGATIVE},
        "coding": {"levels": LEVELS, "zero": SIGNED_ZERO, "signedLevels": SIGNED_LEVELS},
        "words": json.loads(part(HERE / "words.json")),
        "verdicts": [verdict.row() for verdict in look.verdicts()],
        "images": [_image(image, look.names) for image in look.images],
    }
    parts = {
        "CONNECT": "; connect-src 'self'" if live else "",
        "TITLE": html.escape(look.model),
        "DATA": embedded(data),
    }
    return filled(HERE, parts)


def _image(image: ImageLook, names: dict[int, str]) -> dict[str, Any]:
    budget = BUDGET // max(1, len(image.attentions))
    return {
        "name": image.name,
        "size": list(image.input.shape[:2]),
        "source": data_url(Image.fromarray(image.input), "JPEG"),
        "detections": [
            _detection(d, names) | {"own": [round(float(x), 1) for x in box]}
            for d, box in zip(image.detections, image.boxes, strict=True)
        ],
        "leftOut": image.left_out,
        "attentions": [_attention(a, budget) for a in image.attentions],
        "gates": [_gate(gate) for gate in image.gates],
        "grafts": [_graft(graft) for graft in image.grafts],
        "relevance": [_relevance(r) for r in image.relevance],
        "causal": {name: [_change(c, image, names) for c in changes] for name, changes in image.causal.items()},
        "baseline": _baseline(image, names),
        "curves": [_curves(c) for c in image.curves],
    }


def _detection(detection: Detection, names: dict[int, str]) -> dict[str, Any]:
    return {
        "label": str(names.get(detection.label, detection.label)),
        "class": detection.label,
        "score": round(detection.score, 4),
        "box": [round(x, 1) for x in detection.box],
        "place": [round(x, 1) for x in detection.place],
    }


def _attention(attention: Attention, budget: int) -> dict[str, Any]:
    D, heads, N = attention.rows.shape
    found: dict[str, Any] = {
        "name": attention.name, "kind": attention.kind, "heads": heads,
        "grid": attention.grid, "reason": attention.reason, "pointer": None, "boxCells": attention.box_cells,
    }  # fmt: skip
    groups = np.repeat(np.arange(D), heads)
    _, found["drawn"] = lay(attention.rows[:0].reshape(-1, N), attention.key_grids, MOST)
    shown = {"rows": attention.rows, "weighted": attention.weighted,
             "boxRows": attention.box_rows, "boxWeighted": attention.box_weighted}  # fmt: skip
    for name, rows in shown.items():
        found[name] = None if rows is None else pack(lay(rows.reshape(-1, N), attention.key_grids, MOST)[0], groups)
    if attention.cells.size:
        found["pointer"] = _pointer(attention, budget)
    return found


def _pointer(attention: Attention, budget: int) -> dict[str, Any]:
    """Return the rows of the coarser grid, every second or third cell of it where they would be too many."""
    q, r = attention.cells.shape
    heads, M = attention.cell_rows.shape[1:]
    laid, drawn = lay(attention.cell_rows.reshape(-1, M), [attention.cell_grid], POINTED)
    laid = laid.reshape(q, r, heads, -1)
    step = 1
    while -(-q // step) * -(-r // step) * heads * laid.shape[-1] > budget:
        step += 1
    chosen, cells = laid[step // 2 :: step, step // 2 :: step], attention.cells[step // 2 :: step, step // 2 :: step]
    groups = np.repeat(np.arange(cells.size), heads)
    return {
        "rows": pack(chosen.reshape(cells.size * heads, -1), groups),
        "grid": list(cells.shape),
        "cells": cells.ravel().tolist(),
        "drawn": drawn,
    }


def _gate(gate: Gate) -> dict[str, Any]:
    order = np.argsort(-gate.channels, kind="stable")
    return {
        "name": gate.name,
        "kind": gate.kind,
        "channels": [[int(c), round(float(gate.channels[c]), 4)] for c in order],
        "grid": list(gate.cells.shape),
        "cells": pack(gate.cells[None]) if gate.cells.size > 1 else None,
        "range": [round(float(gate.cells.min()), 4), round(float(gate.cells.max()), 4)],
    }


def _graft(graft: Graft) -> dict[str, Any]:
    return {
        "name": graft.name,
        "gamma": float(f"{graft.gamma:.4g}"),
        "strength": float(f"{graft.strength:.4g}") if np.isfinite(graft.strength) else None,
        "grid": list(graft.cells.shape),
        "cells": pack(np.nan_to_num(graft.cells[None], posinf=0)),
    }


def _relevance(relevance: Relevance) -> dict[str, Any]:
    D, T, H, W = relevance.maps.shape
    laid, drawn = lay(relevance.maps.reshape(D * T, H * W), [(H, W)], 2 * MOST)
    return {
        "layer": relevance.layer,
        "targets": relevance.targets,
        "grid": [H, W],
        "drawn": drawn,
        "maps": pack(laid),
    }


def _change(change: Change, image: ImageLook, names: dict[int, str], *, own_is_before: bool = True) -> dict[str, Any]:
    known = change.before or change.after
    assert known is not None
    own = change.before if own_is_before else change.after
    number = next((i for i, d in enumerate(image.detections) if d == own), None)
    return {
        "kind": change.kind,
        "number": number,
        "label": str(names.get(known.label, known.label)),
        "before": None if change.before is None else round(change.before.score, 4),
        "after": None if change.after is None else round(change.after.score, 4),
        "iou": round(change.iou, 4),
    }


def _baseline(image: ImageLook, names: dict[int, str]) -> dict[str, Any] | None:
    base = image.baseline
    if base is None:
        return None
    D, H, W = base.relevance.shape
    laid, drawn = lay(base.relevance.reshape(D, H * W), [(H, W)], 2 * MOST)
    partner = {
        next(i for i, d in enumerate(image.detections) if d == change.after): base.detections.index(change.before)
        for change in base.changes
        if change.before is not None and change.after in image.detections
    }
    return {
        "name": base.name,
        "layer": base.layer,
        "drawn": drawn,
        "detections": [_detection(d, names) for d in base.detections],
        "maps": pack(laid),
        "partner": [partner.get(i) for i in range(len(image.detections))],
        "changes": [_change(change, image, names, own_is_before=False) for change in base.changes],
    }


def _curves(curves: Curves) -> dict[str, Any]:
    return {
        "detection": curves.detection,
        "layer": curves.layer,
        "curves": {d: {m: [round(float(x), 4) for x in c] for m, c in of.items()} for d, of in curves.curves.items()},
        "areas": {d: {m: round(a, 4) for m, a in of.items()} for d, of in curves.areas.items()},
        "pointing": {m: round(p, 4) for m, p in curves.pointing.items()},
    }
