"""Keys of items, and what makes them: one vector a head, and the model's pooled vector beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from attngraft._core.errors import DataError, ShapeError
from attngraft._core.progress import SILENT, Progress
from attngraft.retrieve.items import Item

Array = NDArray[np.float32]
Kind = Literal["text", "images"]
Json = str | int | float | bool | None | Sequence["Json"] | Mapping[str, "Json"]


@dataclass(frozen=True)
class Keys:
    """Keys of some items, as the model gave them: neither normalised nor centred.

    Attributes:
        ids: Name of each item.
        heads: What each attention head put together, before the output projection, ``(items, heads, dim)``.
        standard: The pooled vector that retrieval usually works with, ``(items, width)``.

    Raises:
        ShapeError: If the arrays do not fit the ids.
        DataError: If a key is not finite; names the item.

    Example:
        >>> keys = Keys(("a", "b"), np.zeros((2, 4, 3), np.float32), np.ones((2, 12), np.float32))
        >>> len(keys), keys.take([1]).ids
        (2, ('b',))
    """

    ids: tuple[str, ...]
    heads: Array
    standard: Array

    def __post_init__(self) -> None:
        for name, axes in (("heads", 3), ("standard", 2)):
            array = np.asarray(getattr(self, name), np.float32)
            object.__setattr__(self, name, array)
            if array.ndim != axes or len(array) != len(self.ids):
                shape = "(items, heads, dim)" if axes == 3 else "(items, width)"
                raise ShapeError("Keys", f"{name} {shape} for {len(self.ids)} ids", array.shape)
            bad = np.flatnonzero(~np.isfinite(array).all(tuple(range(1, axes))))
            if len(bad):
                raise DataError(
                    f"the keys of {self.ids[bad[0]]} are not finite; load the model in float32, or leave the item out "
                    f"({len(bad)} of {len(array)} are like this)"
                )

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def joined(cls, batches: Sequence[Keys]) -> Keys:
        """Return the keys of batches, one after the other; of one at least."""
        ids = tuple(name for one in batches for name in one.ids)
        return cls(
            ids, np.concatenate([one.heads for one in batches]), np.concatenate([one.standard for one in batches])
        )

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> Keys:
        """Return the keys of some items, by their rows."""
        index = np.asarray(rows, np.intp)
        return Keys(tuple(self.ids[row] for row in index), self.heads[index], self.standard[index])


class Encoder(Protocol):
    """What makes keys of items: a text model or a detector with attention.

    Attributes:
        kind: What its items are: "text" or "images".
        heads: Number of heads, over all its layers.
        dim: Width of a head's key.
        width: Width of the standard key.
        fingerprint: SHA-256 of the weights and of every option that changes a key, as hexadecimal digits; what
            `fingerprint` makes.
    """

    @property
    def kind(self) -> Kind:
        """Say what the items are."""

    @property
    def heads(self) -> int:
        """Return the number of heads."""

    @property
    def dim(self) -> int:
        """Return the width of a head's key."""

    @property
    def width(self) -> int:
        """Return the width of the standard key."""

    @property
    def fingerprint(self) -> str:
        """Return what tells these keys from others."""

    def describe(self) -> dict[str, Json]:
        """Return what it takes to build this encoder again, and what a reader of the index wants to know, as JSON.

        The keys ``kind`` and ``model`` are always there, the others are arguments of the encoder's class.
        """

    def parts(self, query: Item, how: str) -> list[Item]:
        """Cut a query into parts that search for themselves, such as sentences or crops.

        Args:
            query: The query.
            how: The kind of parts.

        Raises:
            OptionError: If there are no such parts.
        """

    def keys(self, items: Sequence[Item], *, queries: bool = False, progress: Progress = SILENT) -> Iterator[Keys]:
        """Yield the keys of items in batches; the order of items may change, so go by the ids.

        Args:
            items: The items.
            queries: Whether they are queries, which may have a prompt of their own.
            progress: Whom to tell what is being done.
        """


def gather(encoder: Encoder, items: Sequence[Item], progress: Progress = SILENT, *, queries: bool = True) -> Keys:
    """Return the keys of items in their own order, whatever the order of the encoder's batches.

    Args:
        encoder: What makes keys.
        items: The items.
        progress: Whom to tell what is being done.
        queries: Whether they are queries.
    """
    found = Keys.joined(list(encoder.keys(items, queries=queries, progress=progress)))
    place = {name: row for row, name in enumerate(found.ids)}
    return found.take([place[item.id] for item in items])


def fingerprint(weights: Mapping[str, Any], options: Mapping[str, Json]) -> str:
    """Return the SHA-256 of weights and of the options that change a key.

    Args:
        weights: The tensors or arrays by their names, such as a ``state_dict``; non-tensors are left out.
        options: The options; where the model lies and which release wrote the index have no place among them.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(2, 2).state_dict()
        >>> one, other = fingerprint(linear, {"layers": [-1]}), fingerprint(linear, {"layers": [-2]})
        >>> len(one), one == other
        (64, False)
    """
    digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode())
    for name in sorted(weights):
        array = _bytes(weights[name])
        if array is not None:
            digest.update(f"{name} {weights[name].dtype} {tuple(weights[name].shape)}".encode())
            digest.update(array)
    return digest.hexdigest()


def _bytes(tensor: Any) -> memoryview | None:
    """Return the bytes of a tensor or an array, whatever its type; bfloat16 has no numpy type of its own."""
    if hasattr(tensor, "detach"):
        import torch

        tensor = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return np.ascontiguousarray(tensor).data.cast("B") if isinstance(tensor, np.ndarray) else None
