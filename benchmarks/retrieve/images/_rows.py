"""What the image benchmarks share: the rows that rank images, intervals over queries, and one JSON form."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft.measure import environment
from attngraft.retrieve import HeadSpaces, ImageEncoder, Item, Keys, Neighbours, vote
from attngraft.retrieve.spaces import joined, split, unit

SCHEMA = "attngraft.benchmark.retrieve.images/1"
RESULTS = Path(__file__).parent
Array = NDArray[np.float64]
ROWS = (
    "standard",
    "standard-centred",
    "mmr",
    "joined",
    "joined-centred",
    "split",
    "mrag",
    "mrag-centred",
    "mrag-equal",
)
PARTS = ("parts", "parts-mrag")
PAIRS = (
    ("mrag", "standard"), ("mrag", "split"), ("mrag", "joined"), ("mrag", "mmr"), ("mrag", "mrag-equal"),
    ("mrag-centred", "standard-centred"), ("mrag-centred", "joined-centred"), ("mrag-centred", "mrag"),
    ("parts", "mrag"), ("parts-mrag", "parts"),
)  # fmt: skip
"""Rows and what they are compared with."""
POOL, RELEVANCE = 5, 0.5
"""MMR chooses from so many times the images it ranks, and weighs relevance so."""
RESAMPLES = 10_000


def all_keys(encoder: ImageEncoder, items: Sequence[Item]) -> Keys:
    """Return the keys of items in their order."""
    found = list(encoder.keys(items))
    row = {name: at for at, name in enumerate(name for keys in found for name in keys.ids)}
    order = [row[item.id] for item in items]
    heads, standard = (np.concatenate([getattr(keys, name) for keys in found])[order] for name in ("heads", "standard"))
    return Keys(tuple(item.id for item in items), heads, standard)


@dataclass(frozen=True)
class Space:
    """Keys of the images as one row compares them, ``(N, heads, dim)``, and how its heads are weighed."""

    documents: NDArray[np.float32]
    weigh: bool = False

    def ranked(self, queries: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
        """Return the images of each query ``(Q, heads, dim)``, the best first, ``(Q, depth)``."""
        heads = HeadSpaces.of(self.documents)
        weights = heads.importance() if self.weigh else None
        near, alike = nearest(self.documents, queries, depth)
        ids = [str(row) for row in range(len(self.documents))]
        found = vote(Neighbours(ids, near, alike), weights, n=depth)
        return np.array([[int(one.id) for one in ranking] for ranking in found])


def nearest(
    documents: NDArray[np.float32], queries: NDArray[np.float32], depth: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest images of every query and head by cosine, ``(Q, heads, depth)``."""
    alike = np.einsum("qhd,nhd->qhn", unit(queries), unit(documents))
    near = np.argsort(-alike, axis=2, kind="stable")[:, :, :depth]
    return near, np.take_along_axis(alike, near, 2)


def centred(keys: NDArray[np.float32], documents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract the mean of the images' keys."""
    return keys - documents.mean(0)


def spaces(keys: Keys, of: Keys) -> dict[str, tuple[NDArray[np.float32], bool]]:
    """Return the keys of some items in the space of each row, and whether importance weighs its heads.

    Args:
        keys: The items.
        of: The images, whose mean is subtracted where a row centres.
    """
    one, joint = keys.standard[:, None], joined(keys.heads)
    heads = keys.heads.shape[1]
    found = {
        "standard": (one, False),
        "standard-centred": (centred(one, of.standard[:, None]), False),
        "joined": (joint, False),
        "joined-centred": (centred(joint, joined(of.heads)), False),
        "mrag": (keys.heads, True),
        "mrag-centred": (centred(keys.heads, of.heads), True),
        "mrag-equal": (keys.heads, False),
    }
    if keys.standard.shape[1] % heads == 0:
        found["split"] = (split(keys.standard, heads), False)
    return found


def rankings(documents: Keys, queries: Keys, depth: int) -> dict[str, NDArray[np.int64]]:
    """Rank the images for every query by each row but chance and parts, ``(Q, depth)``."""
    of_documents, of_queries = spaces(documents, documents), spaces(queries, documents)
    found = {
        name: Space(keys, weigh).ranked(of_queries[name][0], depth) for name, (keys, weigh) in of_documents.items()
    }
    pool = Space(documents.standard[:, None]).ranked(queries.standard[:, None], POOL * depth)
    found["mmr"] = np.array([
        candidates[diversified(query, documents.standard[candidates], depth)]
        for query, candidates in zip(queries.standard, pool, strict=True)
    ])  # fmt: skip
    return {name: found[name] for name in ROWS if name in found}


def by_parts(documents: Keys, parts: Sequence[Keys], depth: int) -> dict[str, NDArray[np.int64]]:
    """Rank the images for every query by the votes of its parts, each by the standard key or with all heads."""
    rows: dict[str, list[list[int]]] = {name: [] for name in PARTS}
    weights = HeadSpaces.of(documents.heads).importance()
    ids = [str(row) for row in range(len(documents))]
    for keys in parts:
        for name, of_documents, of_parts, one in (
            ("parts", documents.standard[:, None], keys.standard[:, None], np.ones(1)),
            ("parts-mrag", documents.heads, keys.heads, weights),
        ):
            found = Neighbours(ids, *nearest(of_documents, of_parts, depth)).as_parts()
            rows[name].append([int(hit.id) for hit in vote(found, np.tile(one, len(keys)), n=depth)[0]])
    return {name: np.array(found) for name, found in rows.items()}


def diversified(query: Array, keys: Array, n: int) -> list[int]:
    """Choose n keys by maximal marginal relevance, greedily."""
    keys = unit(keys)
    relevance = keys @ unit(query)
    chosen = [int(relevance.argmax())]
    while len(chosen) < min(n, len(keys)):
        worth = RELEVANCE * relevance - (1 - RELEVANCE) * (keys @ keys[chosen].T).max(1)
        worth[chosen] = -np.inf
        chosen.append(int(worth.argmax()))
    return chosen


@dataclass(frozen=True)
class Interval:
    """A mean over queries, its 95 % bootstrap interval, and the mean of each seed."""

    mean: float
    low: float
    high: float
    by_seed: list[float]


def interval(values: Array) -> Interval:
    """Return the mean of ``(seeds, queries)`` and its interval over queries; a query's value is its mean over seeds.

    A difference of two rows as values makes it a paired interval.
    """
    of_query = values.mean(0)
    counts = np.random.default_rng(0).multinomial(len(of_query), np.full(len(of_query), 1 / len(of_query)), RESAMPLES)
    low, high = np.quantile(counts @ of_query / len(of_query), [0.025, 0.975])
    rounded = [round(float(x), 4) for x in (of_query.mean(), low, high)]
    return Interval(*rounded, by_seed=[round(float(x), 4) for x in values.mean(1)])


def case(name: str, measures: Mapping[str, Mapping[str, Array]]) -> dict[str, Any]:
    """Return a case of the JSON: every row and every pair, for each measure.

    Args:
        name: What was asked.
        measures: For each measure, the values ``(seeds, queries)`` of each row.
    """
    return {
        "name": name,
        "measures": {
            measure: {
                "rows": {row: asdict(interval(values)) for row, values in rows.items()},
                "differences": [
                    {"row": row, "less": less, **asdict(interval(rows[row] - rows[less]))}
                    for row, less in PAIRS
                    if row in rows and less in rows
                ],
            }
            for measure, rows in measures.items()
        },
    }


def met_by_chance(sizes: Sequence[int], total: int, drawn: int) -> float:
    """Return the mean chance that so many images drawn at random hold one of a class, over classes of these sizes.

    Example:
        >>> round(met_by_chance([50], 1250, 20), 3)
        0.561
    """
    return float(np.mean([1 - math.comb(total - size, drawn) / math.comb(total, drawn) for size in sizes]))


def write(
    script: str, file: Path, settings: Mapping[str, Any], cases: Sequence[Mapping[str, Any]], **more: Any
) -> None:
    """Write the results of a script."""
    content = {"schema": SCHEMA, "script": script, "environment": asdict(environment()), "settings": dict(settings)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**content, "cases": list(cases), **more}, indent=1) + "\n", encoding="utf-8")
    print(f"{file} written")


def show(cases: Sequence[Mapping[str, Any]]) -> None:
    """Print a table for each measure: a line a row, a column a case."""
    for measure in cases[0]["measures"]:
        print(f"\n{measure:24}" + "".join(f"{case['name']:>14}" for case in cases))
        for row in cases[0]["measures"][measure]["rows"]:
            values = [case["measures"][measure]["rows"].get(row) for case in cases]
            print(f"{row:24}" + "".join(f"{'-' if v is None else format(v['mean'], '.3f'):>14}" for v in values))
