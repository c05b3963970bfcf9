"""Names of the files that a run writes; known without importing what trains."""

from __future__ import annotations

from pathlib import Path

from attngraft._core.files import is_file

BEST, LAST = "best.ckpt", "last.ckpt"


def is_run(path: str | Path) -> bool:
    """Tell whether a path is a checkpoint or a folder of ``attngraft fit``; Ultralytics writes ``best.pt``.

    Example:
        >>> is_run("runs/fit/botnet50/last.ckpt"), is_run("best.pt")
        (True, False)
    """
    return Path(path).suffix == Path(BEST).suffix or is_file(Path(path, BEST))
