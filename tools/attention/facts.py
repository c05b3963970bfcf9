"""Every number that the pages state, computed from the arrays; texts name them in double braces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tools.attention.arrays import GAMMAS, SIDE, Arrays
from tools.attention.operator import HEADS, Floats

from attngraft.attention._kernel_cpu import KEPT_PER_CHANNEL, TILE
from tools.attention import operator

N = SIDE * SIDE
ALL = (1 << HEADS) - 1


@dataclass(frozen=True)
class Asked:
    """The cell that the pages open with: that of the first object of the first scene, asked by the head that looks far.

    Attributes:
        scene: 0.
        head: The head that puts most of its mass on beacons.
        query: The cell.
        key: The cell of its largest weight.
        content: Its content logits, scaled, ``(N,)``.
        position: Its position logits, scaled, ``(N,)``.
        row: Its weights, ``(N,)``.
    """

    scene: int
    head: int
    query: int
    key: int
    content: Floats
    position: Floats
    row: Floats


def asked(arrays: Arrays) -> Asked:
    """Return the cell that the pages open with."""
    head, query = int(arrays["beacon_mass"][:HEADS].argmax()), int(arrays["object"][0, 1])
    q, k, _ = operator.vectors(arrays, 0, head)
    factor = len(q) ** -0.5
    row = operator.rows(arrays, 0, head)[query]
    near, place = operator.content(q, k)[query] * factor, operator.position(q, arrays)[query] * factor
    return Asked(0, head, query, int(row.argmax()), near, place, row)


def spread(row: Floats) -> float:
    """Return the number of cells that would share equally with the same entropy."""
    kept = row[row > 0]
    return float(np.exp(-(kept * np.log(kept)).sum()))


def facts(arrays: Arrays) -> dict[str, str]:
    """Return the numbers of the texts by name."""
    at = asked(arrays)
    width = arrays["x"].shape[1]
    depth = width // HEADS
    mass, beacon = arrays["beacon_mass"][:HEADS], float(arrays["beacon_mass"][HEADS])
    others = np.delete(mass, at.head)
    plain = operator.rows(arrays, 0, at.head, scale=1.0)[at.query]
    alone = operator.softmax(at.content)
    copy = operator.rows_copied(arrays, 0, at.head)[at.query]
    x = arrays["x"][0].astype(np.float64)
    scores = arrays["scores"]
    first = scores[0, :, 0]  # (16, 2)
    return {
        "side": str(SIDE), "N": str(N), "C": str(width), "d": str(depth), "heads": str(HEADS),
        "reach": str(int(arrays["reach"])), "even": f"{1 / N:.4f}",
        "factor": f"{depth**-0.5:g}", "rows": str(2 * SIDE - 1),
        "head": str(at.head), **_place("query", at.query), **_place("key", at.key),
        "product": f"{at.content[at.key] * depth**0.5:.2f}", "content": f"{at.content[at.key]:.2f}",
        "position": f"{at.position[at.key]:.2f}", "logit": f"{at.content[at.key] + at.position[at.key]:.2f}",
        "weight": f"{at.row[at.key]:.2f}", "content_weight": f"{alone[at.key]:.2f}", "cells": f"{spread(at.row):.1f}",
        "plain_weight": f"{plain.max():.2f}", "plain_cells": f"{spread(plain):.1f}",
        "slope": f"{1 - (at.row**2).sum():.2f}", "plain_slope": f"{1 - (plain**2).sum():.2f}",
        "mass": f"{mass[at.head]:.2f}", "other_least": f"{others.min():.2f}", "other_most": f"{others.max():.2f}",
        "beacon": f"{100 * beacon:.1f}",
        **_positions(arrays),
        "red": f"{first[ALL, 0]:.2f}",
        "off_red": f"{first[ALL - (1 << at.head), 0]:.2f}", "off_green": f"{first[ALL - (1 << at.head), 1]:.2f}",
        "only_red": f"{first[1 << at.head, 0]:.2f}",
        "no_graft_green": f"{first[0, 1]:.2f}",
        "copied_moved": f"{50 * abs(copy - at.row).sum():.0f}",
        "copied_change": f"{abs(arrays['copied'] - scores[0, ALL]).max():.2f}",
        **_shifted(arrays, at), **_costs(),
        "ratio": f"{np.linalg.norm(operator.mixture(arrays, 0)) / np.linalg.norm(x):.2f}",
        "turn": f"{GAMMAS[int((arrays['by_gamma'][:, 0, 0] > arrays['by_gamma'][:, 0, 1]).argmax())]:.2f}",
    }  # fmt: skip


def _place(name: str, cell: int) -> dict[str, str]:
    return {f"{name}_row": str(cell // SIDE + 1), f"{name}_column": str(cell % SIDE + 1)}


def _positions(arrays: Arrays) -> dict[str, str]:
    """Say what the position terms do: how far the rows of objects move, and the scores of all objects."""
    moved = [
        0.5 * abs(operator.rows(arrays, s, h)[cell] - operator.rows(arrays, s, h, positions=False)[cell]).sum()
        for s, cell, _ in arrays["object"] for h in range(HEADS)
    ]  # fmt: skip
    change = abs(arrays["scores"][1, ALL] - arrays["scores"][0, ALL]).max()
    return {"positions_moved": f"{100 * max(moved):.0f}", "positions_change": f"{change:.3f}"}


def _shifted(arrays: Arrays, at: Asked) -> dict[str, str]:
    """Say by how much a weight of the head moves at most when 1 is added to every number of the height table."""
    shifted = {**arrays, "height": arrays["height"] + np.float32(1)}
    paper = abs(operator.rows(shifted, 0, at.head) - operator.rows(arrays, 0, at.head)).max()
    other = abs(operator.rows_copied(shifted, 0, at.head) - operator.rows_copied(arrays, 0, at.head)).max()
    return {"paper_shift": f"{paper:.3f}", "copied_shift": f"{other:.3f}"}


def _costs() -> dict[str, str]:
    """Say what attention costs at 640 pixels, 256 channels and 8 heads, by the formulas of the text."""
    pixels, width, heads = 640, 256, 8
    found = {
        "cost_pixels": str(pixels),
        "cost_width": str(width),
        "cost_heads": str(heads),
        "tile": f"{TILE * 4 / 2**20:g}",
        "kept": str(KEPT_PER_CHANNEL),
    }
    for level in (3, 4, 5):
        H = pixels >> level
        cells = H * H
        memory = heads * cells**2 * 4 / 2**20
        attention = 3 * width**2 * cells + 2 * width * cells**2 + cells * width * 2 * (2 * H - 1)
        found |= {
            f"p{level}_cells": f"{cells:,}",
            f"p{level}_memory": f"{memory:,.{1 if memory < 10 else 0}f}",
            f"p{level}_attention": f"{attention / 1e6:,.0f}", f"p{level}_conv": f"{9 * width**2 * cells / 1e6:,.0f}",
        }  # fmt: skip
    return found
