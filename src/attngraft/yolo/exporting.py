"""The export of Ultralytics, followed by proof.

Images go through the model and through the file, and the largest deviation of boxes and scores is kept beside it.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ultralytics.engine.exporter import export_formats
from ultralytics.engine.model import Model
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.nn.modules import RTDETRDecoder
from ultralytics.utils import DEFAULT_CFG_DICT

from attngraft._core.calls import tensors
from attngraft._core.checks import positive
from attngraft._core.errors import ExportParityError, OptionError, first_line, suggest
from attngraft._core.extras import extra_package
from attngraft._core.files import write_text
from attngraft.export import Deviation, load, to_onnx
from attngraft.export.exported import Array, put_aside, without_telemetry
from attngraft.export.formats import OPSET, newest_opset
from attngraft.export.parity import Run
from attngraft.measure import Environment, environment, weight_bytes
from attngraft.yolo import export_images
from attngraft.yolo.deviations import CLASS_MAP_SETTINGS, HEAD_SETTINGS, SURE, Comparison, Precision, compare, reference
from attngraft.yolo.host import packages_named
from attngraft.yolo.imgsz import largest_stride
from attngraft.yolo.looking import title
from attngraft.yolo.model import YOLO
from attngraft.yolo.recipe import Recipe
from attngraft.yolo.workshop import take_place, target_of, workshop

SCHEMA = "attngraft.export/3"
"""Since version 2 with ``sure``; since version 3 ``images`` has that name."""
OWN_FORMATS = {"torchscript": "*.torchscript", "onnx": "*.onnx", "openvino": "*.xml"}
PRECISIONS: Mapping[str, Precision] = {
    "8": "int8", "int8": "int8", "w8a8": "int8", "16": "fp16", "fp16": "fp16", "w16a16": "fp16",
}  # fmt: skip
"""What ``quantize`` of Ultralytics stands for; anything else is compared as fp32: no deviation passes unseen."""

DECODER_OPSET = 16
"""The oldest ONNX opset that Ultralytics takes for RT-DETR, whose decoder samples maps by ``GridSample``."""
SHARE_OF_WEIGHTS: Mapping[Precision, float] = {"fp32": 1.0, "fp16": 0.5, "int8": 0.25}
"""Bytes that a file takes at least, by those of the weights in float32."""

ALIASES = (
    "tensorrt", "trt", "mlmodel", "mlpackage", "mlprogram", "apple", "ios", "huawei", "cann", "om", "vitis", "vitisai",
    "versal", "tflite", "tfjs",
)  # fmt: skip
"""Words that Ultralytics takes for one of the formats that it lists."""


@dataclass(frozen=True)
class ExportRecord:
    """An exported file, and how far it is from its model.

    Attributes:
        file: The file or folder that Ultralytics wrote.
        model: The recipe or checkpoint.
        format: The word of Ultralytics for it.
        precision: Of its numbers.
        dynamic: Whether it takes any size.
        images: How many were compared, and of which kind.
        sizes: Batch, channels, height and width of what was compared.
        deviation: The largest deviations; None where the file cannot be run here.
        sure: Whether the model is sure of anything on the images; where it is not, the deviation proves little. None
            where it gives no scores, or the file cannot be run here.
        reason: Why it cannot.
        environment: What it was compared on.
    """

    file: Path
    model: str
    format: str
    precision: Precision
    dynamic: bool
    images: str
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
            return f"{self.file}: {self.deviation}; on {self.images}"
        weak = (
            f". The model is sure of nothing on them (no score of {SURE}), so this proves little; "
            "compare on images with objects that it finds: source=images/"
        )
        return f"{self.file}: {self.deviation}; on {self.images}{weak}"


def export(
    model: str | Path | Model,
    *,
    format: str = "torchscript",
    source: str | Path | None = None,
    data: str | None = None,
    images: int = 4,
    check: bool = True,
    output: str | Path | None = None,
    **options: Any,
) -> ExportRecord:
    """Export a model as Ultralytics does, and compare the file with it.

    The file takes its place when it is whole and compared. One that is not within `BOUNDS` is kept as ``*.rejected``,
    or ``*.rejected-2``, ... beside older ones, and what has the final name already stays. What is found is written to
    ``FILE.parity.json`` in either case. With ``dynamic=True`` sizes other than the exported one are compared too.

    Args:
        model: A recipe, a checkpoint, or an opened model: a `YOLO`, or any other of Ultralytics.
        format: The word of Ultralytics, such as ``onnx``, ``openvino`` or ``torchscript``.
        source: Images to compare on, a file or a folder; None takes those of ``data``, or generated ones.
        data: The data file of Ultralytics; int8 is calibrated on it.
        images: How many to compare on; its older name is taken too.
        check: Whether a file over its bound is put aside and raises; else the record alone says so.
        output: The file to write, or the folder to put it in; None writes it beside the model.
        **options: The export options of Ultralytics.

    Returns:
        The file and its deviation.

    Raises:
        OptionError: If Ultralytics has no such format, ``images`` is below 1, int8 is asked for without ``data``, or
            the model needs a newer ``opset``, which is named.
        MissingExtraError: If a package of ours that writes the format is not installed.
        MissingPackageError: If one is not installed that Ultralytics alone needs.
        DataError: If ``source`` has no images.
        OutputError: If the file cannot be written, or another process is writing it.
        ExportParityError: If the file does not give the model's numbers.
    """
    images = options.pop("pictures", images)  # as it was called before
    positive("export", images=images)
    kind = _format(format)
    options, precision = _precise(options)
    if precision == "int8":
        if data is None:
            raise OptionError("an int8 export is calibrated on images of yours; say which, as in data=my.yaml")
        options["data"] = data
    opened, name, target = _opened(model, output)
    network: Any = opened.model
    found = list(export_images.images(source, data, images, network.yaml.get("channels", 3)))
    with workshop(network, target, kind, weight_bytes(network) * SHARE_OF_WEIGHTS[precision]) as folder:
        if kind == "onnx":
            _require_opset(network, options)
        with _noted(opened) as noted:
            made = _write(opened, kind, precision, options)
        inputs = _inputs(network, found, noted, options)
        run, reason = _runner(made, kind, options)
        compared = compare(network, run, inputs, precision, noted.head) if run else Comparison(None, None)
        place = folder / made.name
        rejected = check and compared.deviation is not None and not compared.deviation.within
        if rejected:
            (place,) = put_aside([made], folder)
        else:
            take_place(made, place)
    record = ExportRecord(
        file=place,
        model=name,
        format=kind,
        precision=precision,
        dynamic=bool(options.get("dynamic")),
        images=f"{len(found)} images of {source or data}" if source or data else f"{len(found)} generated images",
        sizes=tuple(tuple(x.shape) for x in inputs),
        deviation=compared.deviation,
        sure=compared.sure,
        reason=reason,
        environment=environment("cpu"),
    )
    write_text(record.record_file, json.dumps(record.to_dict(), indent=1))
    if rejected:
        raise ExportParityError(f"{made.name} does not give the numbers of {name}: {record.deviation}", place)
    return record


def _opened(model: str | Path | Model, output: str | Path | None) -> tuple[Model, str, Path]:
    """Open a model.

    Returns:
        The model, its name, and the checkpoint beside which its export goes.
    """
    opened: Model = model if isinstance(model, Model) else YOLO(model)  # an opened RT-DETR or YOLO-World is no YOLO
    network: Any = opened.model
    name = str(model) if opened is not model else str(getattr(model, "ckpt_path", None) or title(model, network))
    if output is not None:
        return opened, name, _beside(Path(output), name)
    target = target_of(network)
    if opened is not model and Recipe.parse(name).grafts and getattr(network, "pt_path", None):
        target = Path.cwd() / target.name  # and not in the cache of seed checkpoints
    return opened, name, target


def _require_opset(network: Any, options: Mapping[str, Any]) -> None:
    """Raise where a model cannot be written with the opset that is asked for, before Ultralytics begins.

    Raises:
        OptionError: If so; names the lowest that works, or the newest that there is.
    """
    asked = options.get("opset")
    if asked is None:
        return
    if isinstance(asked, bool) or not isinstance(asked, int):
        raise OptionError(f"export takes opset as a number, such as opset=12, got opset={asked!r}")
    if asked > OPSET and (newest := newest_opset(asked)) < asked:
        raise OptionError(f"PyTorch {torch.__version__} writes no ONNX opset {asked}; the newest is opset={newest}")
    if asked < DECODER_OPSET and isinstance(network.model[-1], RTDETRDecoder):
        raise OptionError(f"Ultralytics writes RT-DETR from ONNX opset {DECODER_OPSET} on; got opset={asked}")
    if asked >= OPSET:
        return
    side = 2 * largest_stride(network)
    x = torch.zeros(1, network.yaml.get("channels", 3), side, side)
    with tempfile.TemporaryDirectory() as folder:
        to_onnx(reference(network), x, Path(folder, "model.onnx"), dynamic=bool(options.get("dynamic")), opset=asked)


def _format(word: str) -> str:
    """Return the word of Ultralytics for a format; Ultralytics itself takes the nearest where there is none."""
    kind = str(word).lower()
    listed = [name for name in export_formats()["Argument"] if name != "-"]
    if kind not in (*listed, *ALIASES):
        raise OptionError(f"export knows no format {word!r}; {suggest(kind, listed)}")
    return kind


@dataclass
class _Noted:
    """What the exporter of Ultralytics chose.

    Attributes:
        sides: Height and width of the images that the file takes.
        head: What it set of `HEAD_SETTINGS` or `CLASS_MAP_SETTINGS`.
    """

    sides: tuple[int, int] = (0, 0)
    head: dict[str, Any] = field(default_factory=dict)

    def fits(self, size: tuple[int, int], network: Any) -> bool:
        """Tell whether a size has a candidate for each detection that an end-to-end head's file keeps the number of."""
        cells, exported = (
            sum(height // int(step) * (width // int(step)) for step in network.stride)
            for height, width in (size, self.sides)
        )
        return not self.head.get("end2end") or cells >= min(self.head["max_det"], exported)


@contextmanager
def _noted(model: Model) -> Iterator[_Noted]:
    """Note what the exporter of Ultralytics chooses inside."""
    noted = _Noted()

    def note(exporter: Any) -> None:
        height, width = exporter.imgsz
        head = getattr(exporter.model, "model", [None])[-1]
        noted.sides = int(height), int(width)
        names = CLASS_MAP_SETTINGS if hasattr(head, "bake_argmax") else HEAD_SETTINGS
        noted.head = {name: getattr(head, name) for name in names if hasattr(head, name)}

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
    """Say ``half`` and ``int8`` in the newer word of Ultralytics where it knows that; return what they stand for."""
    said = dict(options)
    half, int8 = said.pop("half", False), said.pop("int8", False)
    if half or int8:
        said.setdefault("quantize", 8 if int8 else 16)
    precision = PRECISIONS.get(str(said.get("quantize") or 32), "fp32")
    if "quantize" not in DEFAULT_CFG_DICT and said.pop("quantize", None):
        said |= {"half": precision == "fp16", "int8": precision == "int8"}
    return said, precision


def _inputs(network: Any, images: Sequence[Array], noted: _Noted, options: Mapping[str, Any]) -> list[Tensor]:
    """Return batches of images to compare on: of the exported size, and where the file takes any, of others too."""
    sides = [noted.sides]
    if options.get("dynamic"):
        sides = export_images.other_sizes(noted.sides, largest_stride(network), lambda size: noted.fits(size, network))
    batch = int(options.get("batch") or 1)
    return [x for size in sides for x in export_images.batches(images, size, batch, network)]


def _write(model: Model, kind: str, precision: Precision, options: Mapping[str, Any]) -> Path:
    """Let Ultralytics export; it would install what is missing, so that is looked for first."""
    if kind == "onnx":
        extra_package("onnx", "export")
    with without_telemetry(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's guesses at what may go wrong: the comparison finds out
        if kind == "openvino":
            extra_package("openvino", "export")
            if precision == "int8":
                extra_package("nncf", "int8")
        with packages_named(f"format={kind}"):
            return Path(model.export(format=kind, **options))


def _runner(file: Path, kind: str, options: Mapping[str, Any]) -> tuple[Run | None, str]:
    """Return what runs a file, or why nothing does: our own for three formats, that of Ultralytics for the others."""
    if options.get("nms"):
        return None, "nms=True puts non-maximum suppression into the file; export without it to compare"
    if kind in OWN_FORMATS:
        return load(next(file.glob(OWN_FORMATS[kind])) if file.is_dir() else file), ""
    try:
        backend = AutoBackend(str(file), device=torch.device("cpu"), fuse=False)
    except Exception as error:  # noqa: BLE001 (each runtime has errors of its own)
        return None, f"{kind} cannot be run here: {first_line(error)}"
    return lambda x: [y.cpu().numpy() for y in tensors(backend(x))], ""
