"""What a store of keys can do, whatever holds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, get_args

from numpy.typing import NDArray

from attngraft._core.checks import one_of
from attngraft._core.errors import DataError, OptionError, ShapeError
from attngraft.retrieve import spaces
from attngraft.retrieve.items import Value
from attngraft.retrieve.keys import Keys
from attngraft.retrieve.rank import Neighbours
from attngraft.retrieve.spaces import HeadSpaces

Space = Literal["heads", "standard", "joined", "split"]
SPACES: tuple[str, ...] = get_args(Space)
"""What can be searched: each head alone, the standard key, all heads joined to one vector, the standard key in cuts."""


class Store(Protocol):
    """Keys of items with their fields; ids are unique, and every change is on the disk when the call returns.

    Attributes:
        heads: Number of heads.
        dim: Width of a head's key.
        width: Width of the standard key; 0 where it is not kept.
    """

    @property
    def heads(self) -> int:
        """Return the number of heads."""

    @property
    def dim(self) -> int:
        """Return the width of a head's key."""

    @property
    def width(self) -> int:
        """Return the width of the standard key; 0 where it is not kept."""

    @property
    def ids(self) -> Sequence[str]:
        """Return the ids of all items, in the order in which they were added."""

    def steady(self) -> AbstractContextManager[None]:
        """Read the items as they are now as long as this is open, whatever other threads and processes change.

        What one thread reads in it fits together: what is found is there when its fields are asked for.
        """

    def add(self, keys: Keys, fields: Sequence[Mapping[str, Value]] = ()) -> None:
        """Add items.

        Args:
            keys: Their keys.
            fields: The plain values of each item that a filter may ask for; empty for none.

        Raises:
            DataError: If an id is there already.
            ShapeError: If the keys are of other heads or widths.
        """

    def delete(self, ids: Iterable[str]) -> None:
        """Delete items.

        Raises:
            DataError: If one is not there; nothing is deleted then.
        """

    def describe(self, ids: Sequence[str], fields: Sequence[Mapping[str, Value]]) -> None:
        """Give items other fields in one step; their keys stay, and a failure changes nothing.

        Args:
            ids: The items.
            fields: All fields that each of them has from now on.

        Raises:
            DataError: If one is not there, is named twice, or a field cannot be stored.
            OutputError: If nothing can be written.
        """

    def fields(self, ids: Iterable[str]) -> list[Mapping[str, Value]]:
        """Return the fields of some items."""

    def keys(self, ids: Sequence[str] | None = None) -> Keys:
        """Return the keys of some items, or of all, as they are stored."""

    def spaces(self, space: Space = "heads", *, center: bool = False) -> HeadSpaces:
        """Return the sums over all keys of a space.

        Args:
            space: The space.
            center: Whether over the keys less their mean.
        """

    def nearest(
        self, queries: Keys, n: int, *, space: Space = "heads", center: bool = False, where: str | None = None
    ) -> Neighbours:
        """Return the n nearest items by cosine, of every query and every head; ties go to the item added first.

        Equal cosines are a tie. Those of equal keys may differ in the last bits, as a matrix product adds up in another
        order from column to column, and then they are none.

        Args:
            queries: Keys of the queries, raw like those in the store.
            n: How many; a row of -1 stands where there are fewer.
            space: What is compared.
            center: Whether the mean of the stored keys is subtracted from both sides.
            where: A filter on fields, such as ``"split = 'val'"``; see `attngraft.retrieve.where`.

        Raises:
            ShapeError: If the queries are of other heads or widths.
            OptionError: If the filter cannot be read, or the store has no such space.
        """


def in_space(space: str, heads: NDArray[Any], standard: NDArray[Any]) -> NDArray[Any]:
    """Return keys as a space compares them, ``(N, heads of the space, dim of the space)``.

    Args:
        space: The space.
        heads: Keys of the heads, ``(N, heads, dim)``.
        standard: Standard keys, ``(N, width)``.

    Raises:
        OptionError: If there is no such space, or no standard key was kept for it.
    """
    one_of("nearest", "space", space, SPACES)
    if space == "heads":
        return heads
    if space == "joined":
        return spaces.joined(heads)
    if not standard.shape[1]:
        raise OptionError(f"this index keeps no standard keys, which {space} needs; build it with standard=True")
    return spaces.split(standard, heads.shape[1] if space == "split" else 1)


def require_fit(keys: Keys, heads: int, dim: int, width: int) -> None:
    """Require keys of the heads and widths of a store; one without standard keys takes any.

    Raises:
        ShapeError: If they are others.
    """
    if keys.heads.shape[1:] != (heads, dim):
        raise ShapeError("the index", f"keys of {heads} heads x {dim}", keys.heads.shape)
    if width and keys.standard.shape[1] != width:
        raise ShapeError("the index", f"standard keys of width {width}", keys.standard.shape)


def require_described(keys: Keys, fields: Sequence[Mapping[str, Value]]) -> list[Mapping[str, Value]]:
    """Return the fields of items that are added, empty ones where none are given.

    Raises:
        DataError: If there are others than items, or two of the items have the same id.
    """
    return require_fields(keys.ids, list(fields) or [{}] * len(keys))


def require_fields(ids: Sequence[str], described: Sequence[Mapping[str, Value]]) -> list[Mapping[str, Value]]:
    """Return the fields of items as they are stored.

    Raises:
        DataError: If there are others than items, or two of the items have the same id.
    """
    if len(described) != len(ids):
        raise DataError(f"{len(ids)} items came with the fields of {len(described)}; give each its own")
    if len(set(ids)) < len(ids):
        raise DataError("two of the items have the same id; every item needs an id of its own")
    return [kept(of) for of in described]


def kept(fields: Mapping[str, Value]) -> dict[str, Value]:
    """Return fields as they are stored: NaN is no value.

    Tables such as those of pandas write it where there is none, and every database compares it in its own way.
    """
    return {name: None if value != value else value for name, value in fields.items()}
