"""What Ultralytics' training options may be, said before a run begins rather than by its failure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ultralytics.cfg import CFG_BOOL_KEYS, CFG_FLOAT_KEYS, CFG_FRACTION_KEYS, CFG_INT_KEYS, check_cfg
from ultralytics.utils.checks import check_file

from attngraft._core.errors import DataError, OptionError, first_line, suggest
from attngraft._core.yaml_files import read_yaml
from attngraft.yolo.host import read_data
from attngraft.yolo.splits import split_images
from attngraft.yolo.training import training_defaults

OPTIMIZERS = ("SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop", "auto")
LEAST = {"epochs": 1, "imgsz": 32, "workers": 0, "nbs": 1, "close_mosaic": 0, "warmup_epochs": 0}
MOST_PIXELS = 1 << 14


def check_training(options: Mapping[str, Any]) -> None:
    """Require training options that Ultralytics can carry out.

    Args:
        options: The options by name.

    Raises:
        OptionError: If one cannot be.

    Example:
        >>> check_training({"epochs": 0})
        Traceback (most recent call last):
        attngraft._core.errors.OptionError: epochs should be 1 or more, got 0
    """
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise OptionError(f"{name} should be a finite number, got {value}")
        if name in LEAST and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < LEAST[name]):
            raise OptionError(f"{name} should be {LEAST[name]} or more, got {value!r}")
    if "imgsz" in options and (not isinstance(options["imgsz"], int) or options["imgsz"] > MOST_PIXELS):
        raise OptionError(f"imgsz should be an integer number of pixels up to {MOST_PIXELS}, got {options['imgsz']!r}")
    _check_batch(options.get("batch", 16))
    optimizer = str(options.get("optimizer", "auto"))
    if optimizer.lower() not in map(str.lower, OPTIMIZERS):
        raise OptionError(f"optimizer {optimizer!r} does not exist; {suggest(optimizer, OPTIMIZERS)}")
    try:
        check_cfg(dict(options))
    except (TypeError, ValueError) as error:
        raise OptionError(" ".join(str(error).split())) from error


def _check_batch(batch: Any) -> None:
    whole = isinstance(batch, int) and not isinstance(batch, bool) and (batch == -1 or batch >= 1)
    if not whole and not (isinstance(batch, float) and 0 < batch < 1):
        raise OptionError(
            f"batch should be 1 or more images, -1 to fit the GPU, or a share of its memory such as 0.6, got {batch!r}"
        )


def check_data(data: str, *splits: str) -> list[str]:
    """Require a data file with images in the splits that are named, where the data are on this machine.

    Args:
        data: A data file, or the name of a data set that Ultralytics downloads.
        *splits: ``train``, ``val`` or ``test``.

    Returns:
        The names of the classes; none where the data are yet to be downloaded.

    Raises:
        DataError: If there is no such file, it cannot be read, or a split is empty.
    """
    if not Path(data).is_file():
        try:
            known = check_file(data, download=False, hard=False)
        except (OSError, ValueError) as error:
            raise DataError(f"the data file {data} was not found ({first_line(error)}); check its path") from error
        if not known:
            raise DataError(f"the data file {data} was not found; check its path")
        return []
    for split in dict.fromkeys(splits):
        try:
            images = len(split_images(data, split))
        except (OSError, RuntimeError, SyntaxError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{data} cannot be used ({first_line(error)})") from error
        if not images:
            raise DataError(f"the split {split!r} of {data} has no images; name another, or check its path")
    return [str(name) for name in read_data(data)["names"].values()]


def data_channels(data: str) -> int:
    """Return how many channels the images of a data file have: 3 where it does not say, or is not on this machine."""
    try:
        file = check_file(data, download=False, hard=False)
    except (OSError, ValueError):
        return 3
    values = read_yaml(Path(file)) if file and Path(file).suffix.lower() in (".yaml", ".yml") else None
    found = values.get("channels") if isinstance(values, dict) else None
    return found if isinstance(found, int) else 3


def training_schema() -> dict[str, Any]:
    """Return a JSON schema of each training option that a study leaves to its plan."""
    return {name: _described(name, value) for name, value in training_defaults().items()}


def _described(name: str, default: Any) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    if name == "optimizer":
        kinds = {"enum": [*OPTIMIZERS]}
    elif name in CFG_BOOL_KEYS:
        kinds = {"type": "boolean"}
    elif name in CFG_INT_KEYS:
        kinds = {"type": "integer"}
    elif name in CFG_FLOAT_KEYS and name != "batch":
        kinds = {"type": "number"}
    elif name in CFG_FRACTION_KEYS and name != "fraction":
        kinds = {"type": "number", "minimum": 0, "maximum": 1}
    if name in LEAST:
        kinds |= {"minimum": LEAST[name]}
    if default is None and "type" in kinds:
        kinds["type"] = [kinds["type"], "null"]
    return {**kinds, "default": default}
