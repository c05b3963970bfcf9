"""A folder of key files, and the manifest that says which of them count.

``manifest.json`` and ``keys-000001.safetensors``, ... A file is written whole and never changed; the manifest is
replaced in one step after it. So whatever kills a process leaves an index as it was before a change or after it, and a
file that no manifest names is overwritten by the next one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.checks import not_negative, one_of, positive
from attngraft._core.errors import DataError, OutputError
from attngraft._core.files import write_text
from attngraft._core.json_text import parse_json
from attngraft._core.locks import LOCK, held
from attngraft.retrieve.stores.segments import DTYPES, Segment, merged, read_segment

SCHEMA = "attngraft.retrieve.arrays/1"
MANIFEST = "manifest.json"
SEGMENTS = 16
"""Files beyond which small ones are merged."""


@dataclass(frozen=True)
class Layout:
    """What all keys of a folder have in common.

    Attributes:
        heads: Number of heads.
        dim: Width of a head's key.
        width: Width of the standard key; 0 keeps none.
        dtype: How numbers are stored, "float32" or "float16".

    Raises:
        OptionError: If a number is not positive, or there is no such type.
    """

    heads: int
    dim: int
    width: int
    dtype: str = "float32"

    def __post_init__(self) -> None:
        positive("the index", heads=self.heads, dim=self.dim)
        not_negative("the index", width=self.width)
        one_of("the index", "dtype", self.dtype, tuple(DTYPES))


class Folder:
    """Segments of keys, in a folder or in memory alone.

    Args:
        path: The folder; None keeps everything in memory.
        layout: What the keys have in common; None opens what is there.

    Attributes:
        layout: What the keys have in common.
        segments: The segments, in the order in which their items were added.
        revision: Raised with every change, by whichever process.

    Raises:
        OutputError: If there is an index already where a new one is to be.
        DataError: If there is none to open, or a damaged one.
    """

    def __init__(self, path: Path | None, layout: Layout | None = None) -> None:
        self.path, self.revision, self._last = path, -1, 0
        self.segments: list[Segment] = []
        self._obsolete: list[Segment] = []
        if layout is None:
            self._load()
            return
        self.layout = layout
        if path is not None and (path / MANIFEST).exists():
            raise OutputError(f"{path} holds an index already; open it, or choose another folder")
        self._write()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change the segments as the only process that does, from what others left; a failure changes nothing."""
        if self.path is None:
            yield
            self._write()
            return
        with locked(self.path):
            self._load()
            try:
                yield
                self._write()
            except BaseException:
                self.revision = -1
                self._obsolete = []  # the old manifest counts on, and names these files
                self._load()
                raise

    def append(self, segment: Segment) -> None:
        """Add a segment, and merge the last ones where there are many; within `changing`."""
        self.segments.append(self._placed(segment))
        if len(self.segments) <= SEGMENTS:
            return
        first, total = len(self.segments) - 1, len(segment)
        while first and len(self.segments[first - 1]) <= 2 * total:
            first -= 1
            total += len(self.segments[first])
        self.merge(first)

    def merge(self, first: int = 0) -> None:
        """Put the segments from one on into one, without what is deleted; within `changing`."""
        old = [segment for segment in self.segments[first:] if segment.alive.any()]
        self._obsolete += self.segments[first:]
        if len(old) == 1 and old[0].alive.all():
            self._obsolete.remove(old[0])
            self.segments[first:] = old
        else:
            self.segments[first:] = [self._placed(merged(old))] if old else []

    def _placed(self, segment: Segment) -> Segment:
        """Return a segment in a file of its own, if there is a folder."""
        if self.path is None:
            return segment
        self._last += 1
        return segment.write(self.path / f"keys-{self._last:06d}.safetensors")

    def _load(self) -> None:
        """Read the manifest, and map the files that are new in it."""
        assert self.path is not None
        manifest = _read_manifest(self.path)
        while manifest["revision"] != self.revision:
            try:
                self._take(self.path, manifest)
            except DataError:
                # A writer that merges files removes those of the manifest before its own.
                newer = _read_manifest(self.path)
                if newer == manifest:
                    raise
                manifest = newer

    def _take(self, path: Path, manifest: dict[str, Any]) -> None:
        """Take what a manifest says, all of it or nothing.

        Raises:
            DataError: If it is damaged, or a file that it names is.
        """
        try:
            layout, segments = Layout(**manifest["layout"]), []
            known = {segment.file: segment for segment in self.segments}
            for entry in manifest["segments"]:
                file = path / Path(entry["file"]).name
                segment = known.get(file) or read_segment(file)
                alive = np.ones(len(segment), bool)
                alive[np.array(entry["deleted"], np.intp)] = False
                _require_fit(segment, layout)
                segments.append((segment, alive))
        except DataError:
            raise
        except (KeyError, TypeError, IndexError, ValueError, OverflowError) as error:
            raise DataError(f"{path / MANIFEST} is damaged ({error}); build the index again") from error
        for segment, alive in segments:
            segment.alive = alive
        self.layout, self.segments = layout, [segment for segment, _ in segments]
        self._last, self.revision = manifest["last"], manifest["revision"]

    def _write(self) -> None:
        self.revision += 1
        obsolete, self._obsolete = self._obsolete, []
        if self.path is None:
            return
        entries = [{"file": s.file.name, "deleted": np.flatnonzero(~s.alive).tolist()} for s in self.segments if s.file]
        manifest = {"schema": SCHEMA, "revision": self.revision, "last": self._last, "layout": asdict(self.layout)}
        write_text(self.path / MANIFEST, json.dumps({**manifest, "segments": entries}))
        for segment in obsolete:
            if segment.file:
                with suppress(OSError):  # Windows keeps a file that somebody has mapped
                    segment.file.unlink()


def locked(path: Path) -> AbstractContextManager[None]:
    """Hold the lock of an index, so that nobody else changes it.

    Args:
        path: Its folder.

    Raises:
        OutputError: If the folder cannot be written.
    """
    return held(path / LOCK, advice="an index is changed where it can be written, and searched anywhere")


def _require_fit(segment: Segment, layout: Layout) -> None:
    if segment.heads.shape[1:] != (layout.heads, layout.dim) or segment.standard.shape[1:] != (layout.width,):
        raise DataError(f"{segment.file} holds keys of another index; build the index again")


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Read which files of a folder count.

    Raises:
        DataError: If it holds no index, or a damaged one, or one of another release.
    """
    file = folder / MANIFEST
    try:
        manifest = parse_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{folder} holds no index ({file.name}: {error.strerror or error})") from error
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error}); build the index again") from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise DataError(f"{file} has the schema {schema!r}, and this release reads {SCHEMA!r}; build the index again")
    for count in ("revision", "last"):
        if type(manifest.get(count)) is not int or manifest[count] < 0:
            raise DataError(
                f"{file} is damaged ({count} is {manifest.get(count)!r} and no number from 0); build the index again"
            )
    return dict(manifest)
