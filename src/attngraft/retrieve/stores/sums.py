"""Sums over the keys of a table, kept beside it for the version of the table that they are of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.archive import DAMAGED_ARRAYS
from attngraft._core.errors import OutputError
from attngraft._core.files import write_whole
from attngraft.retrieve.spaces import HeadSpaces

PARTS = ("norms", "units", "keys")


class Sums:
    """Sums that are computed once for a version; those of another version count as unknown.

    Args:
        file: Where they are kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._version, self._known = self._read()

    def of(self, version: int, space: str, center: bool, compute: Callable[[], HeadSpaces]) -> HeadSpaces:
        """Return the sums of a space, computed if they are not known."""
        self._require(version)
        name = f"{space}/{'centred' if center else 'raw'}"
        if name not in self._known:
            found = compute()
            self._known[name] = found
            self._write()
        return self._known[name]

    def changed(
        self, before: int, after: int, *, added: HeadSpaces | None = None, deleted: HeadSpaces | None = None
    ) -> None:
        """Take what a change of the table did to the heads' sums; all others are forgotten if keys changed.

        Args:
            before: Version before the change.
            after: Version after it.
            added: Sums over keys that were added.
            deleted: Sums over keys that were deleted.
        """
        self._require(before)
        if added is not None or deleted is not None:
            heads = self._known.get("heads/raw")
            self._known = {}
            if heads is not None and added is not None:
                self._known["heads/raw"] = heads.merged(added)
            elif heads is not None and deleted is not None:
                self._known["heads/raw"] = heads.without(deleted)
        self._version = after
        if self._known:
            self._write()

    def _require(self, version: int) -> None:
        """Read again, and forget what is of another version: another process may have changed the table."""
        if self._version != version:
            self._version, self._known = self._read()
        if self._version != version:
            self._version, self._known = version, {}

    def _read(self) -> tuple[int, dict[str, HeadSpaces]]:
        try:
            with self._file.open("rb") as raw, np.load(raw, allow_pickle=False) as arrays:
                names = {name.rpartition("/")[0] for name in arrays.files if "/" in name}
                found = {
                    name: HeadSpaces(int(arrays[f"{name}/count"]), *(arrays[f"{name}/{part}"] for part in PARTS))
                    for name in names
                }
                return int(arrays["version"]), found
        except DAMAGED_ARRAYS:
            return -1, {}  # none yet, or cut short: they are computed again

    def _write(self) -> None:
        arrays: dict[str, Any] = {"version": np.array(self._version)}
        for name, of in self._known.items():
            arrays |= {f"{name}/count": np.array(of.count), f"{name}/norms": of.norms, f"{name}/units": of.units,
                       f"{name}/keys": of.keys}  # fmt: skip
        with suppress(OutputError):  # what cannot be kept is computed again: a folder that is only read is searched too
            write_whole(self._file, lambda partial: np.savez(partial, **arrays))
