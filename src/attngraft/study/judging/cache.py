"""What was resampled of a run before, so that a look after a new seed does not start from nothing."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from attngraft._core.archive import DAMAGED_ARRAYS
from attngraft._core.errors import OutputError
from attngraft._core.files import write_whole
from attngraft.coco.matches import Matches
from attngraft.study.judging.bootstrap import Draw, Resampled, resample

FORMAT = 1


@dataclass(frozen=True)
class Cache:
    """A folder with what was resampled of runs, under a checksum of everything that it depends on.

    Args:
        folder: Where it is; None keeps nothing.
        writes: Whether to keep more. One that cannot be written is no reason to stop: it saves time and nothing else.
    """

    folder: Path | None
    writes: bool = False

    def resampled(self, run: Matches, metric: str, draw: Draw) -> Resampled:
        """Resample one run, or read what was resampled of it."""
        if self.folder is None:
            return _resample(run, metric, draw)
        file = self.folder / f"{checksum(run, metric, draw)}.npz"
        found = _read(file)
        if found is None:
            found = _resample(run, metric, draw)
            if self.writes:
                with contextlib.suppress(OutputError):
                    write_whole(file, lambda path: _write(path, found))
        return found


def checksum(run: Matches, metric: str, draw: Draw) -> str:
    """Return a checksum of a run's table, the metric and the draw."""
    digest = hashlib.sha256(f"{FORMAT} {metric} {draw.resamples} {draw.seed}".encode())
    parts = [getattr(run, field.name) for field in fields(run)] + [draw.groups, draw.kept]
    for part in parts:
        digest.update(b"none" if part is None else np.ascontiguousarray(part).tobytes() + str(part.shape).encode())
    return digest.hexdigest()[:24]


def _resample(run: Matches, metric: str, draw: Draw) -> Resampled:
    return resample([run], metric, resamples=draw.resamples, seed=draw.seed, groups=draw.groups, kept=draw.kept)


def _write(file: Path, found: Resampled) -> None:
    with file.open("wb") as sink:
        np.savez(
            sink,
            observed=found.observed,
            resampled=found.resampled,
            known=np.array([found.images, found.effective, found.correction], dtype=float),
        )


def _read(file: Path) -> Resampled | None:
    """Read what was kept; None where there is nothing, or nothing whole."""
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as kept:  # np.load leaves a broken file open
            images, effective, correction = kept["known"].tolist()
            return Resampled(
                kept["observed"], kept["resampled"], int(images), effective=effective, correction=correction
            )
    except DAMAGED_ARRAYS:
        return None
