"""What other packages ask of Ultralytics, so that `attngraft.yolo` alone imports it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from ultralytics.cfg import check_dict_alignment
from ultralytics.data.utils import check_det_dataset
from ultralytics.engine.model import Model
from ultralytics.utils import DEFAULT_CFG_DICT, LOGGER, torch_utils
from ultralytics.utils.dist import generate_ddp_file

from attngraft._core.errors import DataError, MissingPackageError
from attngraft._core.yaml_files import read_yaml
from attngraft.yolo.model import YOLO


def known_keys(verb: str) -> list[str]:
    """List the keys that a verb of Ultralytics takes, in alphabetical order.

    Args:
        verb: ``train``, ``val``, ``predict``, ``track``, ``tune`` or ``export``.
    """
    arguments = inspect.signature(getattr(Model, verb)).parameters
    return sorted({*DEFAULT_CFG_DICT, *arguments} - {"self", "args", "kwargs"})


def still_takes(key: str) -> bool:
    """Tell whether the installed Ultralytics takes a key that is none of its own any more, such as ``half``.

    It renames or drops such keys with a warning, and has no list of them, so it is asked.

    Args:
        key: The key.
    """
    level = LOGGER.level
    LOGGER.setLevel(logging.CRITICAL + 1)  # it warns of an old key, or shows its help: a run does so itself
    try:
        check_dict_alignment(DEFAULT_CFG_DICT, {key: None})
    except SyntaxError:
        return False
    finally:
        LOGGER.setLevel(level)
    return True


PIP_NAMES = {
    "clip": "git+https://github.com/ultralytics/CLIP.git",
    "cv2": "opencv-python",
    "lap": "lap>=0.5.12",
    "mobileclip": "git+https://github.com/ultralytics/mobileclip.git",
    "modelopt": "nvidia-modelopt[onnx]",
    "paddle": "paddlepaddle",
    "rknn": "rknn-toolkit2",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
}
"""What pip calls packages that are imported under another name, or needed from a release on; others by their own."""


@contextmanager
def packages_named(what: str) -> Iterator[None]:
    """Name the pip line where a package is missing inside that only some of the work of Ultralytics needs.

    Args:
        what: The work, such as "track".

    Raises:
        MissingPackageError: If one is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] == "attngraft":
            raise
        package = error.name.partition(".")[0]
        line = PIP_NAMES.get(package, package.replace("_", "-"))
        raise MissingPackageError(
            f"{what} needs the Python package {package}, which is not installed; run: pip install '{line}'"
        ) from error


def averaged_copy(model: nn.Module) -> Any:
    """Return Ultralytics' exponential moving average of a model, as a trainer makes it."""
    return torch_utils.ModelEMA(model)


def has_weights(base: str) -> bool:
    """Tell whether a base starts from trained weights, rather than from a YAML."""
    return bool(YOLO(base).ckpt)


def task_of(base: str) -> str:
    """Return the task of a base, such as ``detect``."""
    return str(YOLO(base).task)


def profiled_flops(model: nn.Module, side: int) -> float:
    """Return the FLOPs that Ultralytics' own profiler reports for a square image.

    Args:
        model: What to profile.
        side: Height and width of the image, in pixels.
    """
    own = getattr(torch_utils.get_flops, "__wrapped__", torch_utils.get_flops)
    return float(own(model, side)) * 1e9


def read_data(file: str) -> dict[str, Any]:
    """Read a data file as Ultralytics does, without downloading what it names.

    Args:
        file: Path of the data file.

    Raises:
        DataError: If it lacks a key, gives one a value of another kind, or has no class.
        FileNotFoundError: If it, or the images of its ``val``, are not here.
    """
    require_data(file)
    try:
        found: dict[str, Any] = check_det_dataset(file, autodownload=False)
    except (SyntaxError, KeyError, TypeError) as error:  # which key it is stands in the second line
        said = " ".join(str(error.args[0] if error.args else error).replace("❌", "").replace(" .", ".").split())
        raise DataError(said if file in said else f"{file}: {said}") from error
    return found


def require_data(data: Any) -> None:
    """Require a data file that is here to be a YAML mapping within bounds, before Ultralytics reads it without any.

    Args:
        data: What was given as data; anything but a YAML file that is here is left to Ultralytics.

    Raises:
        DataError: If it cannot be read, holds no keys, or stands for too many values.
    """
    if not isinstance(data, (str, Path)) or Path(data).suffix.lower() not in (".yaml", ".yml"):
        return
    if Path(data).is_file() and not isinstance(read_yaml(Path(data)), dict):
        raise DataError(f"{data} is no data file: it holds no keys such as train, val and names")


def trainer(opened: YOLO, options: Mapping[str, Any]) -> Any:
    """Return Ultralytics' trainer of an opened model, with its network rebuilt as a training run does.

    Args:
        opened: The model.
        options: Training options besides those that the model was opened with.
    """
    made = opened._smart_load("trainer")(overrides={**opened.overrides, **options, "mode": "train"})
    made.model = made.get_model(weights=opened.model, cfg=opened.model.yaml, verbose=False)
    return made


@contextmanager
def worker_script(trainer: Any) -> Iterator[Path]:
    """Write the file that a worker of multi-GPU training runs, and remove it afterwards.

    Args:
        trainer: Ultralytics' trainer.
    """
    script = Path(generate_ddp_file(trainer))
    try:
        yield script
    finally:
        script.unlink(missing_ok=True)
        script.with_suffix(".pt").unlink(missing_ok=True)
