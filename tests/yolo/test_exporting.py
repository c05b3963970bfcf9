"""Real exports by the host, held against the model they came from."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from ultralytics import YOLO as StockYOLO
from ultralytics.nn.modules import RTDETRDecoder, head

import attngraft
from attngraft._core.errors import (
    DataError,
    ExportParityError,
    MissingExtraError,
    MissingPackageError,
    OptionError,
)
from attngraft._core.registry import register, unregister
from attngraft.cli import main
from attngraft.export import Bound
from attngraft.yolo import export
from attngraft.yolo.deviations import BOUNDS, Layout, pairs
from attngraft.yolo.exporting import _runner

MICRO = "attngraft-micro.yaml+mhsa(init=paper)@P3"


@register(name="frozen_for_a_test")
class Frozen(torch.nn.Identity):
    """Adds a ramp whose length a trace keeps."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linspace(0, 1, int(x.shape[2]) * int(x.shape[3])).view(int(x.shape[2]), int(x.shape[3])) + x


unregister("frozen_for_a_test")


@pytest.fixture
def frozen() -> object:
    yield register(name="frozen_for_a_test")(Frozen)
    unregister("frozen_for_a_test")


@pytest.mark.parametrize(("kind", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino"), ("torchscript", "")])
def test_a_dynamic_file_is_compared_at_other_sizes_too(kind: str, package: str) -> None:
    if package:
        pytest.importorskip(package, reason="needs the [export] extra")
    record = export(MICRO, format=kind, imgsz=64, dynamic=True, images=2)
    assert record.deviation.within
    assert {o.name for o in record.deviation.outputs} == {"boxes", "scores"}
    assert {size[2:] for size in record.sizes} == {(64, 64), (32, 32), (64, 128)}
    assert record.file.parent == Path.cwd()
    stored = json.loads(record.record_file.read_text())
    assert (stored["schema"], stored["precision"], stored["dynamic"]) == ("attngraft.export/3", "fp32", True)
    assert stored["deviation"]["within"] is True
    assert stored["images"] == "2 generated images"


def test_a_file_that_keeps_one_size_is_put_aside_and_ends_with_1(frozen: object) -> None:
    line = "export model=attngraft-micro.yaml+frozen_for_a_test@P3 format=torchscript imgsz=64 dynamic=True images=1"
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 1
    assert ": fails at ((1, 3, 32, 32),)" in result.output
    (kept,) = Path.cwd().glob("*.rejected")
    assert kept.name in result.output
    assert not list(Path.cwd().glob("*.torchscript"))
    (record,) = Path.cwd().glob("*.parity.json")
    assert json.loads(record.read_text())["deviation"]["within"] is False


def test_the_same_model_exported_at_one_size_passes(frozen: object) -> None:
    record = export("attngraft-micro.yaml+frozen_for_a_test@P3", imgsz=64, images=1)
    assert record.deviation.within


def test_half_precision_has_a_bound_of_its_own() -> None:
    pytest.importorskip("onnxruntime", reason="needs the [export] extra")
    record = export(MICRO, format="onnx", imgsz=64, half=True, images=1)
    assert record.precision == "fp16"
    assert record.deviation.within
    assert all(o.bound.absolute > 0.05 for o in record.deviation.outputs)
    assert max(o.absolute for o in record.deviation.outputs) > 1e-5


@pytest.mark.parametrize(
    "recipe",
    [
        MICRO,
        "attngraft-micro.yaml+polarized@P3",
        "attngraft-micro.yaml+polarized(form=official,order=sequential)@P3",
        "attngraft-micro.yaml+cafm(form=code)@P3",
        "yolo11n.yaml+ema@P4",
    ],
)
def test_int8_is_calibrated_on_the_users_pictures(recipe: str, tiny_data: Callable[[str], str]) -> None:
    pytest.importorskip("nncf", reason="needs the [int8] extra")
    record = export(recipe, format="openvino", imgsz=64, int8=True, data=tiny_data("detect"), images=2)
    assert record.precision == "int8"
    assert record.deviation.within
    assert "2 images of" in record.images


def test_int8_without_pictures_or_its_package_is_said(
    tiny_data: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match=r"calibrated on images of yours; say which, as in data=my\.yaml"):
        export(MICRO, format="openvino", int8=True)
    monkeypatch.setitem(sys.modules, "nncf", None)
    pytest.importorskip("openvino", reason="needs the [export] extra")
    with pytest.raises(MissingExtraError, match=r"needs nncf.*attngraft\[int8\]"):
        export(MICRO, format="openvino", int8=True, data=tiny_data("detect"))


def test_pictures_of_the_user_are_taken(tiny_data: Callable[[str], str]) -> None:
    folder = Path(tiny_data("detect")).parent / "images/val"
    assert "1 images of" in export(MICRO, imgsz=64, source=folder / "0.png").images
    Path("empty").mkdir()
    with pytest.raises(DataError, match="there are no images in empty"):
        export(MICRO, imgsz=64, source="empty")


def test_what_cannot_be_run_here_is_said(tmp_path: Path) -> None:
    run, reason = _runner(tmp_path / "model.mlpackage", "coreml", {})
    assert run is None
    assert reason.startswith("coreml cannot be run here: ")
    assert _runner(tmp_path / "model.onnx", "onnx", {"nms": True})[0] is None


ROWS, COLUMNS = Layout("rows", 1, labelled=True), Layout("columns", 2)


class TestPairs:
    def rows(self, *scores: float, more: int = 0) -> np.ndarray:
        rows = [[10.0 * i, 0, 10 * i + 5, 5, score, i % 2, *range(i, i + more)] for i, score in enumerate(scores)]
        return np.array([rows])

    @pytest.mark.parametrize("more", [0, 32, 1], ids=["boxes", "masks", "angle"])
    def test_two_rows_of_equal_score_may_swap(self, more: int) -> None:
        one = self.rows(0.9, 0.5, 0.5, 0.1, more=more)
        found = pairs([one], [one[:, [0, 2, 1, 3]]], ROWS, "fp32")
        assert set(found) == {"scores", "boxes", *(["other channels"] if more else [])}
        assert all(np.array_equal(*pair) for pair in found.values())
        assert len(found["boxes"][0]) == 3

    def test_a_moved_box_is_seen(self) -> None:
        one, other = self.rows(0.9, 0.5), self.rows(0.9, 0.5)
        other[0, 1, 0] += 3
        assert np.abs(np.subtract(*pairs([one], [other], ROWS, "fp32")["boxes"])).max() == 3

    def test_a_row_of_another_class_is_no_match(self) -> None:
        one, other = self.rows(0.9), self.rows(0.9)
        other[0, 0, 5] = 1
        assert np.isinf(np.subtract(*pairs([one], [other], ROWS, "fp32")["boxes"])).all()

    def test_as_many_cells_as_numbers_are_no_rows(self) -> None:
        one = np.zeros((1, 6, 6))
        one[0, 4:, :] = 0.8
        other = one.copy()
        other[0, 2, 5] += 7
        assert np.abs(np.subtract(*pairs([one], [other], COLUMNS, "fp32")["boxes"])).max() == 7
        assert pairs([one], [other], COLUMNS, "fp32")["boxes"][0].shape == (1, 6, 4)

    def test_quantized_numbers_count_where_a_detection_is_sure(self) -> None:
        one = np.zeros((1, 6, 3))
        one[0, 4, 1] = 0.8
        other = one.copy()
        other[0, 0] += [50, 2, 50]
        found = pairs([one], [other], COLUMNS, "int8")
        assert np.abs(np.subtract(*found["boxes"])).max() == 2
        assert np.abs(np.subtract(*pairs([one], [other], COLUMNS, "fp32")["boxes"])).max() == 50

    def test_of_class_maps_the_share_of_equal_pixels_counts(self) -> None:
        one, other = np.zeros((2, 2, 8), np.uint8), np.zeros((2, 2, 8), np.uint8)
        other[1, 0, :4] = 255
        (wanted, got) = pairs([one], [other], Layout("maps"), "fp32")["pixels"]
        assert (wanted.tolist(), got.tolist()) == ([1, 1], [1, 0.75])


needs_semantic = pytest.mark.skipif(not hasattr(head, "SemanticSegment"), reason="this host segments no whole pictures")


@pytest.mark.parametrize(
    ("model", "layout"),
    [
        ("yolo11n.yaml", Layout("columns", 80)),
        ("yolo11n-obb.yaml", Layout("columns", 80)),
        ("yolo11n-cls.yaml", Layout("scores")),
        ("rtdetr-resnet50.yaml", ROWS if hasattr(RTDETRDecoder, "postprocess") else Layout("rows", 80)),
        pytest.param("yolo26n-sem.yaml", Layout("maps"), marks=needs_semantic),
    ],
)
def test_the_head_says_how_its_output_is_laid_out(model: str, layout: Layout) -> None:
    assert Layout.of(attngraft.YOLO(model).model) == layout


class Decoder(torch.nn.Module):
    """A head of a host to come: queries, however large the image is, or cells, of which a larger one has more."""

    nc = 3

    def __init__(self, width: int, *, queries: bool) -> None:
        super().__init__()
        self.width, self.queries = width, queries

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        if self.queries:
            return x.new_zeros(len(x), 20, self.width), None
        return x.new_zeros(len(x), self.width, x.shape[2] * x.shape[3]), None


class Network(torch.nn.Module):
    yaml: ClassVar[dict[str, int]] = {"channels": 3}

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.model = torch.nn.Sequential(torch.nn.MaxPool2d(8), head)

    def forward(self, x: torch.Tensor) -> object:
        return self.model(x)


@pytest.mark.parametrize(
    ("width", "queries", "layout"),
    [
        (6, True, ROWS), (7, True, Layout("rows", 3)), (7, False, Layout("columns", 3)),
        (9, False, Layout("columns", 3)), (5, True, Layout("maps")),
    ],
)  # fmt: skip
def test_an_unknown_head_is_told_by_what_it_gives(width: int, queries: bool, layout: Layout) -> None:
    assert Layout.of(Network(Decoder(width, queries=queries))) == layout


def test_a_two_level_model_and_a_decoder_under_other_names_open_and_graft() -> None:
    """As announced of hosts to come: maps at strides 8 and 32 alone, under a name that says nothing."""
    backbone = "\n".join("  - [-1, 1, Conv, [16, 3, 2]]" for _ in range(5))
    Path("next-n.yaml").write_text(f"nc: 3\nbackbone:\n{backbone}\nhead:\n  - [[2, 4], 1, Detect, [nc]]\n")
    decoder = "RTDETRDecoder, [nc, 32, 20, 2, 4, 1, 64]"
    Path("next-l.yaml").write_text(f"nc: 3\nbackbone:\n{backbone}\nhead:\n  - [[2, 4], 1, {decoder}]\n")
    two, detr = attngraft.YOLO("next-n.yaml+se@P3,N5"), attngraft.YOLO("next-l.yaml+se@P3,N5")
    assert (type(two).__name__, type(detr).__name__) == ("YOLO", "RTDETR")
    assert type(detr.model).__name__ == "RTDETRDetectionModel"
    for opened in (two, detr):
        assert sum(key.endswith(".gamma") for key in opened.model.state_dict()) == 2
    assert Layout.of(two.model) == Layout("columns", 3)
    assert Layout.of(detr.model).kind == "rows"
    record = export(two, imgsz=64, images=1)
    assert record.deviation.within


def sure(model: str) -> attngraft.YOLO:
    """Open a model whose scores are near a half, as those of a trained one."""
    opened = attngraft.YOLO(model)
    last = opened.model.model[-1]
    with torch.no_grad():
        for branch in [*last.cv3, *getattr(last, "one2one_cv3", [])]:
            branch[-1].bias.copy_(torch.randn(len(branch[-1].bias)))
    return opened


@pytest.mark.parametrize("task", ["", "-seg", "-pose", "-obb"])
def test_sorted_rows_are_compared_as_detections(task: str) -> None:
    record = export(sure(f"yolo26n{task}.yaml"), imgsz=64, images=1, nms=False)
    assert record.deviation.within
    assert record.sure
    more = {"-seg": {"other channels", "output 1"}, "-pose": {"other channels"}, "-obb": {"other channels"}}
    assert {o.name for o in record.deviation.outputs} == {"boxes", "scores"} | more.get(task, set())


@needs_semantic
@pytest.mark.parametrize(("format", "part"), [("onnx", "pixels"), ("torchscript", "output 0")])
def test_a_file_of_classes_of_pixels_is_compared_with_the_model(format: str, part: str) -> None:
    record = export("yolo26n-sem.yaml+mhsa@P5", format=format, imgsz=64, images=1)
    assert record.deviation.within
    assert [output.name for output in record.deviation.outputs] == [part]


def test_the_options_of_the_export_are_those_of_the_comparison() -> None:
    record = export("yolov10n.yaml", imgsz=64, images=1, nms=False, max_det=20)
    assert record.deviation.within


def test_a_model_that_is_sure_of_nothing_proves_little() -> None:
    record = export(MICRO, imgsz=64, images=1)
    assert record.sure is False
    assert "sure of nothing on them (no score of 0.25), so this proves little" in str(record)
    assert json.loads(record.record_file.read_text())["sure"] is False
    told = export(sure(MICRO), imgsz=64, images=1)
    assert told.sure is True
    assert "proves little" not in str(told)


def test_sides_are_multiples_of_the_models_own_stride() -> None:
    record = export("yolov8n-p6.yaml", imgsz=96, dynamic=True, images=1)
    assert record.deviation.within
    assert {size[2:] for size in record.sizes} == {(128, 128), (64, 64), (128, 256)}


def test_a_rejected_folder_takes_a_free_name(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs the [export] extra")
    monkeypatch.setitem(BOUNDS["fp32"], "boxes", Bound(absolute=-1.0))
    before = Path("attngraft-micro_openvino_model.rejected", "older.xml")
    before.parent.mkdir()
    before.touch()
    with pytest.raises(ExportParityError, match=r"kept as .*_openvino_model\.rejected-2$") as caught:
        export("attngraft-micro.yaml", format="openvino", imgsz=64, images=1)
    assert list(caught.value.kept.glob("*.xml"))
    assert before.is_file()
    assert not Path("attngraft-micro_openvino_model").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "export needs images to be a positive integer, got 0"),
        ({"images": "many"}, "got 'many'"),
        ({"format": "onxx"}, "export knows no format 'onxx'; did you mean onnx"),
        ({"format": "zip"}, "there are: torchscript, onnx, openvino"),
    ],
)
def test_our_own_options_are_checked_before_anything_is_written(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        export(MICRO, imgsz=64, **options)
    assert not list(Path.cwd().iterdir())


def test_a_package_that_the_host_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(MissingPackageError, match="format=ncnn needs the Python package ncnn, .*pip install 'ncnn'"):
        export(MICRO, format="ncnn", imgsz=64)


def test_an_opened_model_is_exported_as_well() -> None:
    assert export(attngraft.YOLO(MICRO), imgsz=64, images=1).deviation.within


def test_a_small_dynamic_file_of_an_end_to_end_head_is_compared_where_it_has_candidates() -> None:
    """It keeps 300 of 336 candidates at 128 x 128, and an image of 96 x 64 pixels has 126."""
    pytest.importorskip("onnxruntime", reason="needs the [export] extra")
    opened = attngraft.YOLO("yolov10n.yaml")
    record = export(opened, format="onnx", imgsz=128, images=1, dynamic=True, nms=False)
    assert record.deviation.within
    assert record.sizes == ((1, 3, 128, 128), (1, 3, 256, 64), (1, 3, 128, 192))


def test_a_decoder_that_lacks_a_setting_of_the_export_is_compared() -> None:
    record = export("yolov8n-rtdetr.yaml+mhsa(init=paper)@P5", imgsz=64, images=1)
    assert record.deviation.within
    assert {o.name for o in record.deviation.outputs} >= {"scores"}


@pytest.mark.parametrize(
    ("opened", "called"),
    [
        (lambda: StockYOLO("attngraft-micro.yaml"), "attngraft-micro.yaml"),
        (lambda: attngraft.YOLO("yolov8n-rtdetr.yaml"), "yolov8n-rtdetr.yaml"),  # an RTDETR, which is no YOLO
    ],
    ids=["stock", "rtdetr"],
)
def test_a_model_that_the_host_opened_is_exported_by_its_name(opened: Callable[[], Any], called: str) -> None:
    record = export(opened(), imgsz=64, images=1, output=Path("out"))
    assert record.deviation.within
    assert record.model == json.loads(record.record_file.read_text())["model"] == called
    assert record.file.parent == Path("out").absolute()
    assert record.file.stem == Path(called).stem


def test_an_old_opset_is_exported_where_the_arithmetic_allows_it() -> None:
    onnx = pytest.importorskip("onnx", reason="needs the [export] extra")
    record = export("attngraft-micro.yaml+dat(init=paper)@P3", format="onnx", imgsz=64, images=1, opset=12)
    assert record.deviation.within
    assert onnx.load(record.file).opset_import[0].version == 12


@pytest.mark.parametrize(
    ("opset", "said"),
    [
        (999, r"writes no ONNX opset 999; the newest is opset=\d\d$"),
        ("abc", "as a number, such as opset=12, got opset='abc'"),
    ],
)
def test_an_opset_that_there_is_not_is_said_before_anything_is_written(opset: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        export("attngraft-micro.yaml+dat@P3", format="onnx", imgsz=64, images=1, opset=opset)
    assert not list(Path().glob("**/*.onnx*"))


def test_an_opset_that_is_too_old_is_said_before_anything_is_written() -> None:
    pytest.importorskip("onnx", reason="needs the [export] extra")
    with pytest.raises(OptionError, match=r"cannot be written with ONNX opset 9 .*the lowest that works is opset=1\d"):
        export("attngraft-micro.yaml+dat@P3", format="onnx", imgsz=64, images=1, opset=9)
    assert {file.name for file in Path.cwd().iterdir()} <= {"cache"}


def test_an_opset_that_the_host_refuses_for_a_decoder_is_said_before_anything_is_written() -> None:
    with pytest.raises(OptionError, match=r"Ultralytics writes RT-DETR from ONNX opset 16 on; got opset=15$"):
        export("rtdetr-resnet50.yaml", format="onnx", imgsz=64, images=1, opset=15)
    assert {file.name for file in Path.cwd().iterdir()} <= {"cache"}


def test_the_older_name_of_an_option_is_taken() -> None:
    assert export(MICRO, imgsz=64, pictures=1).images == "1 generated images"


def test_an_opened_model_is_left_where_it_was(tmp_path: Path) -> None:
    """The next export without ``output`` goes beside the checkpoint, and not where the last one went."""
    model = attngraft.YOLO(MICRO)
    model.save("mine.pt")
    model = attngraft.YOLO("mine.pt")
    first = export(model, format="torchscript", imgsz=64, output=tmp_path / "elsewhere" / "other.torchscript")
    second = export(model, format="torchscript", imgsz=64)
    assert first.file == tmp_path / "elsewhere" / "other.torchscript"
    assert second.file == Path("mine.torchscript").absolute()
