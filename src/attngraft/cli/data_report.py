"""Reports which images Ultralytics left out of a training run, and stops where the classes do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from attngraft._core.errors import DataError


def report_left_out(trainer: Any) -> None:
    """Look at what Ultralytics' scan of the labels found; a callback for ``on_pretrain_routine_end``.

    Args:
        trainer: Its trainer, with its data loaders built.

    Raises:
        DataError: If a label names a class that the data file does not have.
    """
    for split, loader in (("training", trainer.train_loader), ("validation", trainer.test_loader)):
        dataset = getattr(loader, "dataset", None)
        files = getattr(dataset, "label_files", None)
        cache = Path(files[0]).parent.with_suffix(".cache") if files else None
        if cache is None or not cache.is_file():
            continue
        found = np.load(cache, allow_pickle=True).item()  # as Ultralytics itself did before, or wrote it
        corrupt, total = found["results"][3:5]
        reasons = [message.partition("ignoring corrupt image/label: ") for message in found["msgs"]]
        left_out = [(where.split(": ")[-2].strip(), why) for where, mark, why in reasons if mark]
        if not corrupt or not left_out:
            continue
        where, why = left_out[0]
        sentence = f"{corrupt} of {total} {split} images are left out, first {where} ({why}); fix or remove them"
        if any("class" in why.lower() for _, why in left_out):
            raise DataError(f"{sentence}: a label must name one of the classes of the data file")
        click.echo(f"attngraft: {sentence}", err=True)
