"""Command lines that look into the arms on the images where they disagree most."""

from __future__ import annotations

import shlex
from pathlib import Path

from attngraft.study.judging.results import Results
from attngraft.study.plan import STOCK


def look_commands(results: Results, folder: Path) -> list[str]:
    """Return a command line for each arm shown: its page of these images, beside the baseline.

    Args:
        results: What the study came to.
        folder: The study's folder.

    Returns:
        The lines, for a shell in the study's folder; none for what lacks its checkpoint, the baseline's or an image.
    """
    images = [Path(sample.file) for sample in results.samples]
    kept = {arm: folder / file for arm, file in results.checkpoints.items() if (folder / file).is_file()}
    if not images or STOCK not in kept or not all(image.is_file() for image in images):
        return []
    within = folder.absolute()
    base = _short(kept[STOCK], within)
    seen = [_short(image, within) for image in images]
    return [
        shlex.join(["attngraft", "look", _short(checkpoint, within), *seen, f"base={base}"])
        for arm, checkpoint in kept.items()
        if arm != STOCK
    ]


def _short(path: Path, within: Path) -> str:
    """Return a path as it is written in a folder."""
    own = path.absolute()
    return str(own.relative_to(within) if own.is_relative_to(within) else own)
