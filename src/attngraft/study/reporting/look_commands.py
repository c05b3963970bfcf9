"""Command lines that look into the arms on the images where they disagree most."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from attngraft.study.judging.results import Results
from attngraft.study.plan import STOCK


def look_commands(results: Results, folder: Path) -> list[str]:
    """Return a command line for each arm shown: its page of these images, beside the baseline.

    Args:
        results: What the study came to.
        folder: The study's folder.

    Returns:
        The lines, for a shell in the current folder; none for what lacks its checkpoint, the baseline's or an image.
    """
    images = [Path(sample.file) for sample in results.samples]
    kept = {arm: folder / file for arm, file in results.checkpoints.items() if (folder / file).is_file()}
    if not images or STOCK not in kept or not all(image.is_file() for image in images):
        return []
    return [shlex.join(_words(kept[arm], images, kept[STOCK])) for arm in kept if arm != STOCK]


def _words(checkpoint: Path, images: list[Path], base: Path) -> Iterator[str]:
    yield from ("attngraft", "look", _short(checkpoint))
    yield from map(_short, images)
    yield f"base={_short(base)}"


def _short(path: Path) -> str:
    """Return a path as it is written in the current folder."""
    own, here = path.absolute(), Path.cwd()
    return str(own.relative_to(here) if own.is_relative_to(here) else own)
