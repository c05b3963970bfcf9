"""More images like these misses: every object that a detector missed is an aspect, and its heads search for it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.checks import one_of, positive
from attngraft._core.errors import DataError
from attngraft._core.files import free_path, write_bytes, write_text
from attngraft._core.progress import SILENT, Progress
from attngraft.retrieve.images import ImageEncoder
from attngraft.retrieve.index import Index
from attngraft.retrieve.items import CUT, Item, Source, Value, read_items
from attngraft.retrieve.keys import gather
from attngraft.retrieve.misses import read_misses
from attngraft.retrieve.parts import box_of
from attngraft.retrieve.rank import Neighbours, Ranked, vote
from attngraft.retrieve.spaces import unit

TWIN = 0.98
"""Cosine of two images' joined keys from which the second is put behind all others, where a list is to be diverse."""
REASONS = 5
"""Votes that are told of an image."""


@dataclass(frozen=True)
class Reason:
    """One vote for an image.

    Attributes:
        miss: Number of the miss that asked, from 0.
        head: The head that found the image.
        rank: The image's rank among the head's nearest, from 0.
        similarity: Cosine of the miss's key and the image's.
        votes: What the head gave.
    """

    miss: int
    head: int
    rank: int
    similarity: float
    votes: float


@dataclass(frozen=True)
class Mined:
    """An image that was found.

    Attributes:
        id: Its name.
        path: The file.
        votes: What all heads of all misses gave it.
        miss: The miss whose heads gave it most.
        why: The largest votes.
    """

    id: str
    path: Path
    votes: float
    miss: int
    why: tuple[Reason, ...]


@dataclass(frozen=True)
class Mining:
    """Images like some misses, the best first.

    Attributes:
        images: The images.
        misses: What they are like.
        searched: How many images were searched.
        settings: What was asked.
    """

    images: list[Mined]
    misses: list[Item]
    searched: int
    settings: dict[str, Any]

    def to_json(self) -> str:
        """Return everything as JSON."""
        misses = [{"id": miss.id, "path": str(miss.path), "box": box_of(miss), "label": miss.fields.get("label")}
                  for miss in self.misses]  # fmt: skip
        images = [{**asdict(image), "path": str(image.path)} for image in self.images]
        content = {"schema": "attngraft.mining/1", "settings": self.settings, "searched": self.searched}
        return json.dumps({**content, "misses": misses, "images": images}, indent=1)

    def save(self, folder: str | Path) -> Path:
        """Write ``images.txt``, ``mined.json``, ``sheet.png`` and ``index.html`` to a new folder.

        Args:
            folder: The folder; if it exists, the next free name is taken: ``out-2``.

        Returns:
            The folder that was written.

        Raises:
            OutputError: If it cannot be written.
        """
        from attngraft.retrieve.contact import page, sheet

        place = free_path(Path(folder))
        paths = (os.fsencode(image.path.resolve()) + b"\n" for image in self.images)  # names in any encoding
        write_bytes(place / "images.txt", b"".join(paths))
        write_text(place / "mined.json", self.to_json() + "\n")
        write_bytes(place / "sheet.png", sheet(self))
        write_text(place / "index.html", page(self))
        return place


def mine(
    model: Any,
    source: Source,
    like: str | Path | Sequence[Item],
    *,
    n: int = 200,
    diverse: bool = True,
    parts: str = "objects",
    split: str = "val",
    center: bool = True,
    confidence: float = 0.25,
    layers: Any = None,
    imgsz: Any = None,
    progress: Progress = SILENT,
) -> Mining:
    """Find images like the objects that a detector missed, in images that nobody has labelled.

    Args:
        model: A detector's checkpoint or an opened one, or an `ImageEncoder`.
        source: The unlabelled images; see `attngraft.retrieve.read_items`. Images of the misses are left out.
        like: The misses; see `attngraft.retrieve.misses.read_misses`.
        n: How many images to find.
        diverse: Whether misses take turns in choosing, so that no kind of them fills the list, and near-duplicates of
            an image come last. Otherwise all votes add up.
        parts: How a miss asks: ``"objects"`` takes its key inside its image, ``"crops"`` cuts it out and enlarges it,
            which loses its size.
        split: The split of a ``data.yaml``.
        center: Whether each head's mean key is subtracted.
        confidence: Least score of a detection that counts.
        layers: Which attentions; see `ImageEncoder`.
        imgsz: Side of the input; None takes the one of the training run.
        progress: Whom to tell what is being done.

    Raises:
        OptionError: If an option cannot work.
        MapError: If the model has no attention with heads.
        DataError: If there is no miss, or no image besides theirs.
    """
    positive("mine", n=n)
    one_of("mine", "parts", parts, ("crops", "objects"))
    made = isinstance(model, ImageEncoder)
    encoder = model if made else ImageEncoder(model, layers=layers, imgsz=imgsz, confidence=confidence)
    misses = read_misses(like, encoder, split=split, progress=progress)
    left_out = {miss.path.resolve() for miss in misses if miss.path}
    items = [item for item in read_items(source) if item.path is None or item.path.resolve() not in left_out]
    if not items:
        raise DataError(f"{source} has no image besides those of the misses; give unlabelled images")
    index = Index.build(items, model=encoder, preset=None, center=center, progress=progress)
    asked = [_asking(miss, at, parts) for at, miss in enumerate(misses)]
    keys = gather(encoder, asked, progress)
    found = index.store.nearest(keys, min(n, len(index)), center=center)
    ranked = _chosen(found, index, n, diverse=diverse)
    paths = {item.id: item.path for item in items}
    images = [_mined(one, paths[one.id], index.store.heads) for one in ranked]
    settings = {"model": encoder.name, "layers": list(encoder.layers), "n": n, "diverse": diverse, "parts": parts,
                "center": center, "confidence": encoder.confidence}  # fmt: skip
    return Mining(images, misses, len(index), settings)


def _asking(miss: Item, number: int, parts: str) -> Item:
    """Return a miss as it asks: cut out of its image, or inside it."""
    marks: dict[str, Value] = {CUT: True} if parts == "crops" and box_of(miss) else {}
    return replace(miss, id=f"miss {number}", fields={**miss.fields, **marks})


def _chosen(found: Neighbours, index: Index, n: int, *, diverse: bool) -> list[Ranked]:
    """Return the images in the order in which they are listed, with the votes of all misses."""
    weights, misses = index.importance(), len(found.rows)
    together = vote(found.as_parts(), np.tile(weights, misses), n=len(index))[0]
    if not diverse:
        return together[:n]
    by_id = {one.id: one for one in together}
    turns = [[one.id for one in ranking] for ranking in vote(found, weights, n=len(index))]
    order = _take_turns(turns)
    stored = index.store.keys(order)
    keys = unit((stored.heads - index.store.spaces().mean).reshape(len(order), -1))
    fresh: list[Ranked] = []
    twins: list[Ranked] = []
    kept = np.zeros((0, keys.shape[1]))
    for name, key in zip(order, keys, strict=True):
        is_twin = len(kept) > 0 and float((kept @ key).max()) >= TWIN
        (twins if is_twin else fresh).append(by_id[name])
        kept = kept if is_twin else np.vstack((kept, key))
        if len(fresh) == n:
            break
    return (fresh + twins)[:n]


def _take_turns(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Let each ranking in turn give its best name that was not given yet.

    Example:
        >>> _take_turns([["a", "b", "c"], ["a", "d"]])
        ['a', 'd', 'b', 'c']
    """
    order: dict[str, None] = {}
    waiting = [iter(ranking) for ranking in rankings]
    while waiting:
        still = []
        for ranking in waiting:
            name = next((name for name in ranking if name not in order), None)
            if name is not None:
                order[name] = None
                still.append(ranking)
        waiting = still
    return list(order)


def _mined(one: Ranked, path: Path | None, heads: int) -> Mined:
    assert path is not None
    of_miss: dict[int, float] = {}
    for given in one.by_head:
        of_miss[given.head // heads] = of_miss.get(given.head // heads, 0.0) + given.votes
    why = tuple(
        Reason(v.head // heads, v.head % heads, v.rank, round(v.similarity, 4), v.votes) for v in one.by_head[:REASONS]
    )
    return Mined(one.id, path, one.votes, max(of_miss, key=lambda miss: of_miss[miss]), why)
