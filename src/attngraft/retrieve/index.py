"""An index: an encoder, a store of its keys, and the search by votes of the heads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attngraft._core.checks import positive
from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft._core.progress import SILENT, Progress, tell
from attngraft.retrieve.described import FILE, Description, Settings
from attngraft.retrieve.encoders import encoder_of, rebuilt
from attngraft.retrieve.items import CUT, SIDES, Item, Source, Value, ids_of, read_items
from attngraft.retrieve.keys import Encoder, Keys
from attngraft.retrieve.rank import HeadVote, vote
from attngraft.retrieve.stores.base import Store, kept
from attngraft.retrieve.stores.opening import create, open_store

DIGEST = "_digest"
"""The field that tells whether an item is still what it was; names with this first sign are ours."""
AT_ONCE = 16384
"""Items that are given other fields in one step; their keys are held in memory."""


@dataclass(frozen=True)
class Hit:
    """An item that was found, and why.

    Attributes:
        id: Its name.
        votes: What the heads gave it together.
        by_head: Which heads voted for it, at which rank, the largest vote first.
        fields: Its fields.
    """

    id: str
    votes: float
    by_head: tuple[HeadVote, ...]
    fields: Mapping[str, Value]


class Index:
    """Items that can be searched by the votes of attention heads.

    Args:
        encoder: What makes keys; None makes it from the description when it is first needed.
        store: The keys.
        description: What the index was built with.
        folder: Where it lies; None in memory alone.
    """

    def __init__(
        self, encoder: Encoder | None, store: Store, description: Description, folder: Path | None = None
    ) -> None:
        self._encoder, self._model = encoder, None
        self.store, self.description, self.folder = store, description, folder
        self._told_of_dead = False

    @classmethod
    def build(
        cls,
        source: Source,
        *,
        model: Any,
        path: str | Path | None = None,
        preset: str | None = "paper",
        center: bool | None = None,
        rule: str | None = None,
        depth: int | None = None,
        store: str = "arrays",
        dtype: str = "float32",
        standard: bool = True,
        progress: Progress = SILENT,
        **options: Any,
    ) -> Index:
        """Build an index, or complete the one that is at ``path``.

        Args:
            source: The items; see `attngraft.retrieve.read_items`.
            model: A text model's folder or hub id, a detector's checkpoint or recipe, or an encoder.
            path: The folder to write; every batch is there when it is made, and the same call completes what a killed
                process left. None keeps the index in memory.
            preset: ``"paper"`` encodes and searches as the paper does, literally; None leaves out its prompt and lets
                heads vote only as deep as items are asked for.
            center: Whether to subtract each head's mean key, which the paper does not: the first thing to try.
            rule: How heads vote; see `attngraft.retrieve.vote`.
            depth: How many items each head votes for at least.
            store: What keeps the keys: "arrays" (exact, in files that are mapped into memory) or "lance" (LanceDB, for
                what outgrows memory).
            dtype: How they are stored: "float32" or "float16".
            standard: Whether to keep the pooled key too, which doubles the size; only controls need it.
            progress: Whom to tell what is being done.
            **options: Those of `TextEncoder` or `ImageEncoder`, such as ``layers=-1``.

        Raises:
            DataError: If the corpus is empty, cannot be read, has an id twice, or is not what it was at ``path``.
            OptionError: If an option cannot work, or ``path`` was built with others.
            OutputError: If ``path`` holds something else, or cannot be written.
        """
        items = read_items(source)
        settings = Settings.of(preset, center=center, rule=rule, depth=depth)
        kind = kind_of(items)
        if preset is not None and kind == "text" and not hasattr(model, "keys"):
            options["preset"] = preset
        encoder = encoder_of(kind, model, **options)
        description = Description(encoder.describe(), encoder.fingerprint, store, settings)
        folder = None if path is None else Path(path)
        opened = _opened(folder, description, encoder) if folder else None
        width = encoder.width if standard else 0
        if opened is None:
            if folder:
                description.write(folder)
            opened = create(store, folder, heads=encoder.heads, dim=encoder.dim, width=width, dtype=dtype)
        if (opened.width, getattr(opened, "dtype", dtype)) != (width, dtype):
            raise OptionError(
                f"{folder} keeps standard={opened.width > 0} and dtype={getattr(opened, 'dtype', dtype)}, got "
                f"standard={standard} and dtype={dtype}; use the same, or build another index"
            )
        index = cls(encoder, opened, description, folder)
        missing = _missing(items, opened)
        index._describe(items, progress)
        index._add(missing, progress)
        return index

    @classmethod
    def open(cls, path: str | Path, *, model: Any = None) -> Index:
        """Open an index; its model is loaded when it is first needed.

        Args:
            path: The folder.
            model: The model or encoder, where it is no longer at the place that the index names, or is more than data:
                without a word of yours, the model is read as under safe loading, and nothing in it is run.

        Raises:
            DataError: If the folder holds no index, or a damaged one.
        """
        folder = Path(path)
        description = Description.read(folder)
        index = cls(None, open_store(description.store, folder), description, folder)
        index._model = model
        return index

    def __len__(self) -> int:
        return len(self.store.ids)

    def __repr__(self) -> str:
        model = Path(str(self.description.encoder.get("model"))).name
        return f"Index({len(self)} items, {self.store.heads} heads x {self.store.dim} of {model})"

    @property
    def ids(self) -> Sequence[str]:
        """Return the ids of all items, in the order in which they were added."""
        return self.store.ids

    @property
    def encoder(self) -> Encoder:
        """Return what makes keys.

        Raises:
            OptionError: If it is not the one that the index was built with.
            CheckpointError: If the index names one that is not there, or is more than data.
        """
        if self._encoder is None:
            made = rebuilt(self.description.encoder, self._model)
            self.description.require_encoder(made, str(self.folder or "the index"))
            self._encoder = made
        return self._encoder

    def add(self, source: Source, *, progress: Progress = SILENT) -> None:
        """Add items; each batch is stored when it is made.

        Args:
            source: The items; see `attngraft.retrieve.read_items`.
            progress: Whom to tell what is being done.

        Raises:
            DataError: If an id is there already, or no item can be read; single images that cannot are left out and
                named.
            OptionError: If the items are of another kind.
        """
        items = read_items(source)
        known = set(self.ids)
        there = [item.id for item in items if item.id in known]
        if there:
            raise DataError(f"the index has an item {there[0]!r} already; delete it first, or give another id")
        self._add(items, progress)

    def delete(self, ids: str | Iterable[str]) -> None:
        """Delete items by their ids.

        Raises:
            DataError: If one is not there; nothing is deleted then.
        """
        self.store.delete([ids] if isinstance(ids, str) else ids)

    def save(self, path: str | Path) -> None:
        """Write the index to a new folder, where it lives from now on.

        Raises:
            OutputError: If the folder holds something, or cannot be written.
        """
        folder = Path(path)
        _require_free(folder)
        saved = create(
            self.description.store, folder, heads=self.store.heads, dim=self.store.dim, width=self.store.width,
            dtype=getattr(self.store, "dtype", "float32"),
        )  # fmt: skip
        saved.add(self.store.keys(), self.store.fields(self.ids))
        self.description.write(folder)
        self.store, self.folder = saved, folder

    def importance(self, *, center: bool | None = None) -> NDArray[np.float64]:
        """Return the weight of each head's vote, ``(heads,)``.

        Args:
            center: Whether of keys less their mean; None takes the index's own setting.
        """
        return self.store.spaces(center=self._settings(center=center).center).importance()

    def search(
        self,
        query: str | Path | Item | Keys,
        n: int = 20,
        *,
        where: str | None = None,
        parts: str | Sequence[str | Path | Item] | None = None,
        center: bool | None = None,
        rule: str | None = None,
        depth: int | None = None,
        progress: Progress = SILENT,
    ) -> list[Hit]:
        """Find items by the votes of the heads.

        Args:
            query: A text, the path of an image, an item, or keys: several of them are parts of one query.
            n: How many items to find.
            where: A filter on fields, such as ``"split = 'val'"``; see `attngraft.retrieve.where`.
            parts: What votes besides: a kind of parts that the encoder cuts, such as "sentences" or "crops", or the
                parts themselves. They vote instead of the whole query.
            center: Whether to subtract each head's mean key.
            rule: How heads vote; see `attngraft.retrieve.vote`.
            depth: How many items each head votes for at least.
            progress: Whom to tell what is being done, and where fewer items are found than asked for.

        Returns:
            The items, best first; fewer than n where the index or the filter has fewer.

        Raises:
            OptionError: If the query is empty, the filter cannot be read, or an option cannot work.
            DataError: If the index is empty.
        """
        positive("search", n=n)
        if not len(self):
            raise DataError("the index is empty; add items first")
        settings = self._settings(center=center, rule=rule, depth=depth)
        keys = self.keys_of(query, parts, progress=progress)
        progress.started(f"searching {len(self)} items")
        with self.store.steady():
            deep = max(n, settings.depth or n)
            found = self.store.nearest(keys, deep, center=settings.center, where=where).as_parts()
            weights = self._weights(settings, progress)
            ranked = vote(found, np.tile(weights, len(keys)), n=n, rule=settings.rule)[0]
            fields = self.store.fields([one.id for one in ranked])
        if len(ranked) < n:
            items = "1 item" if len(self) == 1 else f"{len(self)} items"
            reason = items if len(ranked) == len(self) else f"{len(ranked)} that the filter lets pass"
            progress.line(f"asked for {n}, and the index has {reason}")
        return [
            Hit(one.id, one.votes, _of_heads(one.by_head, self.store.heads), _shown(of))
            for one, of in zip(ranked, fields, strict=True)
        ]

    def keys_of(
        self,
        query: str | Path | Item | Keys,
        parts: str | Sequence[str | Path | Item] | None = None,
        *,
        progress: Progress = SILENT,
    ) -> Keys:
        """Return the keys of a query, or of its parts.

        Args:
            query: A text, the path of an image, an item, or keys, which are returned as they are.
            parts: The kind of parts, or the parts themselves.
            progress: Whom to tell what is being done.

        Raises:
            OptionError: If the query is empty, or there are no such parts.
        """
        if isinstance(query, Keys):
            return query
        items = [self._query(query, "query")]
        if isinstance(parts, str):
            items = self.encoder.parts(items[0], parts)
        elif parts is not None:
            items = [self._query(part, f"part {number}") for number, part in enumerate(parts, 1)]
        if not items:
            raise OptionError("a query needs at least one part, got none")
        progress.started("encoding the query")
        return Keys.joined(list(self.encoder.keys(items, queries=True, progress=progress)))

    def as_retriever(self, n: int = 20, **options: Any) -> Callable[[str], list[Hit]]:
        """Return a plain function from a query to hits, for frameworks that take one.

        Args:
            n: How many items to find.
            **options: Those of `search`.
        """

        def retrieve(query: str) -> list[Hit]:
            return self.search(query, n, **options)

        return retrieve

    def _add(self, items: Sequence[Item], progress: Progress) -> None:
        """Encode items and store each batch when it is made."""
        if not items:
            return
        kind = kind_of(items)
        if kind != self.encoder.kind:
            raise OptionError(f"the index is of {self.encoder.kind}, got {kind}; build another index")
        by_id, done = {item.id: item for item in items}, 0
        progress.started(f"encoding {len(items)} items")
        for keys in self.encoder.keys(items, progress=progress):
            self.store.add(keys, [{**by_id[name].fields, DIGEST: digest(by_id[name])} for name in keys.ids])
            done += len(keys)
            progress.started(f"encoding: {done} of {len(items)} items")
        if not done:
            raise DataError(f"none of {len(items)} images can be read; give PNG or JPEG files")
        self._compact()

    def _describe(self, items: Sequence[Item], progress: Progress) -> None:
        """Give items that are stored already the fields that they have now; their keys stay.

        Whoever is killed in between finds them again among what is missing.
        """
        known = set(self.ids)
        there = [item for item in items if item.id in known]
        stored = self.store.fields(ids_of(there))
        wanted = [{**kept(item.fields), DIGEST: of.get(DIGEST)} for item, of in zip(there, stored, strict=True)]
        changed = [at for at, (now, of) in enumerate(zip(wanted, stored, strict=True)) if now != of]
        for start in range(0, len(changed), AT_ONCE):
            some = changed[start : start + AT_ONCE]
            self.store.describe(ids_of([there[at] for at in some]), [wanted[at] for at in some])
        if changed:
            progress.line(f"{len(changed)} of {len(there)} items have other fields now, which are taken")
            self._compact()

    def _compact(self) -> None:
        compact = getattr(self.store, "compact", None)
        if compact is not None:
            compact()

    def _query(self, query: str | Path | Item, name: str) -> Item:
        if isinstance(query, Item):
            return query
        if self.encoder.kind == "images":
            return Item(name, path=Path(query))
        if not str(query).strip():
            raise OptionError(f"a {name} needs words, got {str(query)!r}")
        return Item(name, text=str(query))

    def _settings(self, **given: Any) -> Settings:
        """Return the index's settings with those that are given instead; a single item is not moved to nothing."""
        asked = {name: value for name, value in given.items() if value is not None}
        found = Settings(**{**vars(self.description.settings), **asked})
        return found if len(self) > 1 else replace(found, center=False)

    def _weights(self, settings: Settings, progress: Progress) -> NDArray[np.float64]:
        spaces = self.store.spaces(center=settings.center)
        dead = spaces.dead()
        if dead and not self._told_of_dead:
            self._told_of_dead = True
            text = f"the keys of {len(dead)} of {spaces.heads} heads are all zero ({_abridged(dead)}); they do not vote"
            tell(progress, text)
        return spaces.importance()


def kind_of(items: Sequence[Item]) -> Any:
    """Return what items are, "text" or "images".

    Raises:
        DataError: If they are of both kinds, or one is neither.
    """
    kinds = {"text" if item.text is not None else "images" if item.path is not None else "" for item in items}
    if len(kinds) > 1 or "" in kinds:
        raise DataError("an index holds either texts or images, got items of both kinds; build two")
    return kinds.pop()


def digest(item: Item) -> str:
    """Return a short checksum of what is encoded: the text, or the file of an image; not which part of it."""
    hashed = hashlib.blake2b(digest_size=6)
    if item.path is not None:
        hashed.update(item.path.read_bytes() if item.path.is_file() else b"")
    hashed.update((item.text or "").encode(errors="surrogatepass"))
    return hashed.hexdigest()


def _missing(items: Sequence[Item], store: Store) -> list[Item]:
    """Return the items that a store does not have.

    Raises:
        DataError: If it has one that was something else.
    """
    known = set(store.ids)
    there = [item for item in items if item.id in known]
    before = store.fields(ids_of(there))
    changed = [item.id for item, of in zip(there, before, strict=True) if not _is_same(item, of)]
    if changed:
        raise DataError(
            f"{changed[0]!r} is not what the index has under this id ({len(changed)} items changed); delete them from "
            "the index first, or build another"
        )
    return [item for item in items if item.id not in known]


def _is_same(item: Item, before: Mapping[str, Value]) -> bool:
    """Tell whether an item is encoded as it was, from its fields in the store.

    The part of an image is compared by the fields themselves: in the checksum it would make every object of an index
    that an earlier release built count as changed.
    """
    part = item.path is None or (
        [before.get(side) for side in SIDES] == [item.fields.get(side) for side in SIDES]
        and bool(before.get(CUT)) == bool(item.fields.get(CUT))
    )
    return part and before.get(DIGEST) == digest(item)


def _opened(folder: Path, description: Description, encoder: Encoder) -> Store | None:
    """Open the store at a folder if it holds an index like this one; None where it is free.

    Raises:
        OptionError: If it was built with something else.
        OutputError: If it holds something else.
    """
    if not (folder / FILE).exists():
        _require_free(folder)
        return None
    before = Description.read(folder)
    before.require_encoder(encoder, str(folder))
    before.require_settings(description.settings, description.store, str(folder))
    # A process that was killed between the two left the description alone.
    return open_store(before.store, folder) if _visible(folder) - {FILE} else None


def _require_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or _visible(folder)):
        raise OutputError(f"{folder} exists and is no index; choose another folder")


def _visible(folder: Path) -> set[str]:
    """Return the names in a folder, without locks and what a killed process left half written."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def _of_heads(votes: Iterable[HeadVote], heads: int) -> tuple[HeadVote, ...]:
    """Return votes with the numbers of the model's heads: those of a query's parts count on from part to part."""
    return tuple(HeadVote(one.head % heads, one.rank, one.similarity, one.votes) for one in votes)


def _shown(fields: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in fields.items() if not name.startswith("_")}


def _abridged(numbers: Sequence[int], most: int = 5) -> str:
    return ", ".join(map(str, numbers[:most])) + (", ..." if len(numbers) > most else "")
