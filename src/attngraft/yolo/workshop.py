"""A private folder in which Ultralytics writes an export, and how what it wrote takes its place whole.

Ultralytics writes under the final name from the first byte on. Two exports at once would mix their files there, and one
that is killed, or meets a full disk, would leave a broken file. So it writes into a folder of a random name beside the
target, and one process at a time may export a model to a format.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attngraft._core.cache import ADVICE, cache_folder
from attngraft._core.errors import OutputError
from attngraft._core.locks import held
from attngraft._core.shortage import shortage

FULL_DISK = 1 << 20
"""Bytes: with fewer free, whatever failed to write is said to have met a full disk."""


def target_of(network: Any) -> Path:
    """Return the checkpoint beside which Ultralytics would write a model's export.

    Args:
        network: The model of Ultralytics.
    """
    given = getattr(network, "pt_path", None) or getattr(network, "yaml_file", None)
    source = Path(str(given or network.yaml.get("yaml_file", "")))
    return Path.cwd() / (source.name if source.suffix in (".yaml", ".yml") else source)


@contextmanager
def workshop(network: Any, target: Path, kind: str, need: float = 0.0) -> Iterator[Path]:
    """Let Ultralytics write into a private folder inside; what is not taken from there by then is removed.

    Args:
        network: The model of Ultralytics.
        target: The checkpoint beside which the export goes.
        kind: The format.
        need: Bytes that the export takes at least.

    Raises:
        OutputError: If another process exports the same model to the same format, or the folder cannot be written;
            names a full disk.
    """
    log, kept = logging.getLogger("ultralytics"), getattr(network, "pt_path", None)
    _require_room(target, need)
    with (
        _only_export(target, kind),
        _said_of(target),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".attngraft-", ignore_cleanup_errors=True) as name,
    ):
        rename = _Renamed(name, str(target.parent))
        network.pt_path = str(Path(name, target.with_suffix(".pt").name))
        log.addFilter(rename)
        try:
            yield target.parent
        finally:
            log.removeFilter(rename)
            network.pt_path = kept


def take_place(made: Path, place: Path) -> None:
    """Move a finished file or folder to its place; what stood there is replaced, and a link stays a link.

    Args:
        made: What was made, in a folder of the same file system that is removed later.
        place: Where to.
    """
    place = Path(os.path.realpath(place))
    old = made.with_name(f"{made.name}.old")
    if place.is_dir() or (made.is_dir() and place.exists()):
        os.replace(place, old)  # a folder is replaced by no system in one step
    try:
        os.replace(made, place)
    except OSError:
        if old.exists():
            os.replace(old, place)
        raise


class _Renamed(logging.Filter):
    """Let Ultralytics speak of the place that a file is going to have."""

    def __init__(self, here: str, there: str) -> None:
        super().__init__()
        self.here, self.there = here, there

    def filter(self, record: logging.LogRecord) -> bool:
        """Rename the folder in a message."""
        record.msg = str(record.msg).replace(self.here, self.there)
        return True


@contextmanager
def _only_export(target: Path, kind: str) -> Iterator[None]:
    """Keep other processes of this user from exporting the same model to the same format."""
    key = hashlib.sha256(f"{kind}:{os.path.realpath(target)}".encode()).hexdigest()[:16]
    folder = cache_folder() / "exports"
    busy = OutputError(
        f"another process is exporting {target.stem} to {kind} in {target.parent}; wait for it, or name another place "
        "with output=FOLDER"
    )
    with held(folder / f"{key}.lock", busy, advice=ADVICE):
        yield


def _require_room(target: Path, need: float) -> None:
    """Raise where a file of that many bytes has no room: PyTorch's own writer ends the process when it meets that.

    Raises:
        OutputError: If it has none.
    """
    free, allowed = shutil.disk_usage(target.parent).free, _largest_file()
    if need > min(free, allowed):
        limit = f"files may have {allowed / 1e6:.1f} MB (ulimit -f)"
        room = f"{free / 1e6:.1f} MB are free" if free <= allowed else limit
        raise OutputError(
            f"{target.stem} is not exported to {target.parent}: it takes {need / 1e6:.1f} MB, and {room}; "
            "free some space and run the same command again"
        )


def _largest_file() -> float:
    """Return the bytes that a file of this process may have."""
    try:
        import resource  # of POSIX
    except ImportError:
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


@contextmanager
def _said_of(target: Path) -> Iterator[None]:
    """Name what ran out, or the folder that cannot be written, where an export fails inside for that."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        short = shortage(error)
        if short is None and shutil.disk_usage(target.parent).free < FULL_DISK:
            short = "the disk is full; free some space and run the same command again"
        if short is not None:
            raise OutputError(f"{target.stem} is not exported to {target.parent}: {short}") from error
        if isinstance(error, PermissionError):
            raise OutputError(f"cannot write in {target.parent}; name another place with output=FOLDER") from error
        raise
