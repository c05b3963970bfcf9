"""The host's export, followed by proof.

Pictures go through the model and through the file, and the largest deviation of boxes and scores is kept beside it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from ultralytics.data.augment import LetterBox
from ultralytics.data.utils import IMG_FORMATS, check_det_dataset
from ultralytics.engine.exporter import export_formats
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.utils import DEFAULT_CFG_DICT

from attngraft._core.calls import tensors
from attngraft._core.checks import positive
from attngraft._core.errors import DataError, ExportParityError, MissingPackageError, OptionError, first_line, suggest
from attngraft._core.extras import extra_package
from attngraft._core.files import write_text
from attngraft.data.scenes import beacon_scene, generator
from attngraft.export import Deviation, load
from attngraft.export.exported import Array, put_aside, without_telemetry
from attngraft.export.parity import Run
from attngraft.measure import Environment, environment
from attngraft.yolo.deviations import HEAD_SETTINGS, SURE, Comparison, Precision, compare
from attngraft.yolo.imgsz import largest_stride
from attngraft.yolo.model import YOLO
from attngraft.yolo.recipe import Recipe

SCHEMA = "attngraft.export/2"
"""Since version 2 with ``sure``."""
OWN_FORMATS = {"torchscript": "*.torchscript", "onnx": "*.onnx", "openvino": "*.xml"}
PRECISIONS: Mapping[str, Precision] = {
    "8": "int8", "int8": "int8", "w8a8": "int8", "16": "fp16", "fp16": "fp16", "w16a16": "fp16",
}  # fmt: skip
"""What the host's ``quantize`` stands for; anything else is compared as fp32, so that no deviation passes unseen."""

ALIASES = (
    "tensorrt", "trt", "mlmodel", "mlpackage", "mlprogram", "apple", "ios", "huawei", "cann", "om", "vitis", "vitisai",
    "versal", "tflite", "tfjs",
)  # fmt: skip
"""Words that the host takes for one of the formats that it lists."""


@dataclass(frozen=True)
class ExportRecord:
    """An exported file, and how far it is from its model.

    Attributes:
        file: The file or folder that the host wrote.
        model: The recipe or checkpoint.
        format: The host's word for it.
        precision: Of its numbers.
        dynamic: Whether it takes any size.
        pictures: How many were compared, and of which kind.
        sizes: Batch, channels, height and width of what was compared.
        deviation: The largest deviations; None where the file cannot be run here.
        sure: Whether the model is sure of anything on the pictures; where it is not, the deviation proves little. None
            where it gives no scores, or the file cannot be run here.
        reason: Why it cannot.
        environment: What it was compared on.
    """

    file: Path
    model: str
    format: str
    precision: Precision
    dynamic: bool
    pictures: str
    sizes: tuple[tuple[int, ...], ...]
    deviation: Deviation | None
    sure: bool | None
    reason: str
    environment: Environment

    @property
    def record_file(self) -> Path:
        """The JSON file beside it."""
        return self.file.with_name(f"{self.file.name}.parity.json")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain = asdict(self) | {"file": self.file.name, "sizes": [list(size) for size in self.sizes]}
        plain["deviation"] = self.deviation and self.deviation.to_dict()
        return {"schema": SCHEMA, **plain}

    def __str__(self) -> str:
        if self.deviation is None:
            return f"{self.file}: not compared with the model: {self.reason}"
        if self.sure is not False or not self.deviation.within:
            return f"{self.file}: {self.deviation}; on {self.pictures}"
        weak = (
            f". The model is sure of nothing on them (no score of {SURE}), so this proves little; "
            "compare on pictures with objects that it finds: source=pictures/"
        )
        return f"{self.file}: {self.deviation}; on {self.pictures}{weak}"


def export(
    model: str | Path | YOLO,
    *,
    format: str = "torchscript",
    source: str | Path | None = None,
    data: str | None = None,
    pictures: int = 4,
    check: bool = True,
    output: str | Path | None = None,
    **options: Any,
) -> ExportRecord:
    """Export a model as the host does, and hold the file against it.

    A file that is not within `BOUNDS` is renamed to ``*.rejected``, or ``*.rejected-2``, ... beside older ones. What is
    found is written to ``FILE.parity.json`` in either case. With ``dynamic=True`` sizes other than the exported one are
    compared too.

    Args:
        model: A recipe, a checkpoint, or an opened model.
        format: The host's word, such as ``onnx``, ``openvino`` or ``torchscript``.
        source: Pictures to compare on, a file or a folder; None takes those of ``data``, or generated ones.
        data: The host's data file; int8 is calibrated on it.
        pictures: How many to compare on.
        check: Whether a file over its bound is put aside and raises; else the record alone says so.
        output: The file to write, or the folder to put it in; None writes it beside the model.
        **options: The host's export options.

    Returns:
        The file and its deviation.

    Raises:
        OptionError: If the host has no such format, ``pictures`` is below 1, or int8 is asked for without ``data``.
        MissingExtraError: If a package of ours that writes the format is not installed.
        MissingPackageError: If one is not installed that only the host needs.
        DataError: If ``source`` has no pictures.
        ExportParityError: If the file does not give the model's numbers.
    """
    positive("export", pictures=pictures)
    kind = _format(format)
    options, precision = _precise(options)
    if precision == "int8":
        if data is None:
            raise OptionError("an int8 export is calibrated on pictures of yours; say which, as in data=my.yaml")
        options["data"] = data
    found = list(_pictures(source, data, pictures))
    said = f"{len(found)} pictures of {source or data}" if source or data else f"{len(found)} generated pictures"
    opened = model if isinstance(model, YOLO) else YOLO(model)
    name = str(getattr(opened, "ckpt_path", None) or model) if isinstance(model, YOLO) else str(model)
    network: Any = opened.model
    if not isinstance(model, YOLO) and Recipe.parse(str(model)).grafts and getattr(network, "pt_path", None):
        network.pt_path = str(Path.cwd() / Path(network.pt_path).name)  # and not in the cache of seed checkpoints
    if output is not None:
        network.pt_path = str(_beside(Path(output), name))
    with _noted(opened) as noted:
        file = _write(opened, kind, precision, options)
    dynamic = bool(options.get("dynamic"))
    sides = _other_sizes(noted.sides, largest_stride(network)) if dynamic else [noted.sides]
    inputs = [x for size in sides for x in _batches(found, size, int(options.get("batch") or 1), network)]
    run, reason = _runner(file, kind, options)
    compared = compare(network, run, inputs, precision, noted.head) if run else Comparison(None, None)
    deviation, sizes = compared.deviation, tuple(tuple(x.shape) for x in inputs)
    record = ExportRecord(
        file, name, kind, precision, dynamic, said, sizes, deviation, compared.sure, reason, environment("cpu")
    )
    write_text(record.record_file, json.dumps(record.to_dict(), indent=1))
    if check and deviation is not None and not deviation.within:
        (kept,) = put_aside([file])
        raise ExportParityError(f"{file.name} does not give the numbers of {name}: {deviation}", kept)
    return record


def _format(word: str) -> str:
    """Return the host's word for a format; the host itself takes the nearest where there is none."""
    kind = str(word).lower()
    listed = [name for name in export_formats()["Argument"] if name != "-"]
    if kind not in (*listed, *ALIASES):
        raise OptionError(f"export knows no format {word!r}; {suggest(kind, listed)}")
    return kind


@dataclass
class _Noted:
    """What the host's exporter settled.

    Attributes:
        sides: Height and width of the pictures that the file takes.
        head: What it set of `HEAD_SETTINGS`.
    """

    sides: tuple[int, int] = (0, 0)
    head: dict[str, Any] = field(default_factory=dict)


@contextmanager
def _noted(model: YOLO) -> Iterator[_Noted]:
    """Note what the host's exporter settles inside."""
    noted = _Noted()

    def note(exporter: Any) -> None:
        height, width = exporter.imgsz
        head = getattr(exporter.model, "model", [None])[-1]
        noted.sides = int(height), int(width)
        noted.head = {name: getattr(head, name) for name in HEAD_SETTINGS if hasattr(head, name)}

    model.add_callback("on_export_end", note)
    try:
        yield noted
    finally:
        model.callbacks["on_export_end"].remove(note)


def _beside(output: Path, name: str) -> Path:
    """Return the checkpoint beside which Ultralytics would write the output that is asked for."""
    to_folder = output.is_dir() or not output.suffix
    target = output / f"{Path(name.partition('+')[0]).stem}.pt" if to_folder else output.with_suffix(".pt")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.absolute()


def _precise(options: Mapping[str, Any]) -> tuple[dict[str, Any], Precision]:
    """Say ``half`` and ``int8`` in the host's newer word where it knows that, and return what they stand for."""
    said = dict(options)
    half, int8 = said.pop("half", False), said.pop("int8", False)
    if half or int8:
        said.setdefault("quantize", 8 if int8 else 16)
    precision = PRECISIONS.get(str(said.get("quantize") or 32), "fp32")
    if "quantize" not in DEFAULT_CFG_DICT and said.pop("quantize", None):
        said |= {"half": precision == "fp16", "int8": precision == "int8"}
    return said, precision


def _write(model: YOLO, kind: str, precision: Precision, options: Mapping[str, Any]) -> Path:
    """Let the host export; it would install what is missing, so that is looked for first."""
    if kind == "onnx":
        extra_package("onnx", "export")
    with without_telemetry(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's guesses at what may go wrong: the comparison finds out
        if kind == "openvino":
            extra_package("openvino", "export")
            if precision == "int8":
                extra_package("nncf", "int8")
        try:
            return Path(model.export(format=kind, **options))
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                f"format={kind} is written with the Python package {error.name}, which is not installed; install it as "
                "https://docs.ultralytics.com/modes/export says, or choose another format"
            ) from error


def _pictures(source: str | Path | None, data: str | None, count: int) -> Iterator[Array]:
    """Yield pictures as OpenCV reads them."""
    if source is None and data is None:
        for index in range(count):
            yield beacon_scene(generator(0, index)).picture[..., ::-1]
        return
    files = _files(source or check_det_dataset(data, autodownload=False)["val"])
    if not files:
        raise DataError(f"there are no pictures in {source or data}; name a picture, a folder or a data file")
    for file in files[:count]:
        picture = cv2.imread(str(file))
        if picture is None:
            raise DataError(f"{file} is no picture that can be read; mend or remove it")
        yield picture


def _files(source: Any) -> list[Path]:
    places = [Path(place) for place in (source if isinstance(source, list) else [source])]
    listed = [Path(line) for place in places if place.suffix == ".txt" for line in place.read_text().split()]
    inside = [file for place in places if place.is_dir() for file in sorted(place.rglob("*"))]
    return [file for file in [*places, *listed, *inside] if file.suffix[1:].lower() in IMG_FORMATS]


def _other_sizes(sides: tuple[int, int], step: int) -> list[tuple[int, int]]:
    """Return the exported size, a smaller upright and a larger lying one."""
    height, width = sides
    return [sides, (max(step, height - step), max(step, width // 2 // step * step)), (height, width + 2 * step)]


def _batches(found: Sequence[Array], size: tuple[int, int], batch: int, network: Any) -> Iterator[Tensor]:
    """Bring pictures to a size as the host does, and yield as many at once as the file takes."""
    frame = LetterBox(new_shape=size, auto=False)
    made = np.stack([frame(image=picture) for picture in found])  # (n, H, W, 3)
    x = torch.from_numpy(np.ascontiguousarray(made[..., ::-1].transpose(0, 3, 1, 2))).float() / 255
    channels = network.yaml.get("channels", 3)
    x = x if channels == 3 else x.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    whole = x[torch.arange(-(-len(x) // batch) * batch) % len(x)]
    yield from (whole[start : start + batch] for start in range(0, len(whole), batch))


def _runner(file: Path, kind: str, options: Mapping[str, Any]) -> tuple[Run | None, str]:
    """Return what runs a file, or why nothing does: our own for three formats, the host's for the others."""
    if options.get("nms"):
        return None, "nms=True puts the search for duplicates into the file; export without it to compare"
    if kind in OWN_FORMATS:
        return load(next(file.glob(OWN_FORMATS[kind])) if file.is_dir() else file), ""
    try:
        backend = AutoBackend(str(file), device=torch.device("cpu"), fuse=False)
    except Exception as error:  # noqa: BLE001 (each runtime has errors of its own)
        return None, f"{kind} cannot be run here: {first_line(error)}"
    return lambda x: [y.cpu().numpy() for y in tensors(backend(x))], ""
