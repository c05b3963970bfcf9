"""Our classifiers as backbones of host models: the rows, and the life of such a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics import YOLO as StockYOLO
from ultralytics.nn import tasks

import attngraft
from attngraft.models import create, load_shared
from attngraft.yolo.backbones import POOL, ROW, exchange
from attngraft.yolo.model import resolve_base
from attngraft.yolo.placing import layout
from tests.hostkit import TRAIN

SMALL = "base: yolo11n.yaml\nbackbone: [botnet50, {width: 8, image_size: 64}]\ngrafts: se@N3\n"


def small(name: str, base: str = "yolo11n.yaml", *words: str) -> attngraft.YOLO:
    """Build a base with a narrow backbone."""
    Path(f"{name}.yaml").write_text("\n".join([f"base: {base}", "backbone: [resnet50, {width: 8}]", *words]))
    return attngraft.YOLO(f"{name}.yaml")


def test_a_name_needs_no_file() -> None:
    model = attngraft.YOLO("yolo11n-botnet26t.yaml").model
    assert model.yaml["backbone"][0] == [-1, 1, ROW, ["ch", "botnet26t", {"image_size": 640}]]
    assert model.yaml["scale"] == "n"
    attention = [m for m in model.modules() if type(m).__name__ == "MHSA"]
    assert [a.size for a in attention] == [(40, 40), (40, 40), (20, 20)]


@pytest.mark.parametrize(
    ("base", "task", "strides"),
    [
        ("yolo11n.yaml", "detect", [8, 16, 32]),
        ("yolov5n.yaml", "detect", [8, 16, 32]),
        ("yolov8n-seg.yaml", "segment", [8, 16, 32]),
        ("yolov10n.yaml", "detect", [8, 16, 32]),
        ("yolo12n-pose.yaml", "pose", [8, 16, 32]),
        ("yolo26n-obb.yaml", "obb", [8, 16, 32]),
        ("yolov3-tiny.yaml", "detect", [16, 32]),
        ("yolo11n-cls.yaml", "classify", None),
        ("rtdetr-l.yaml", "detect", None),
    ],
)
def test_every_base_keeps_its_head(base: str, task: str, strides: list[int] | None) -> None:
    model = small("own", base)
    assert model.task == task
    stock = tasks.yaml_model_load(base)
    assert [row[2:] for row in model.model.yaml["head"]] == [row[2:] for row in stock["head"]]
    if strides:
        assert model.model.stride.tolist() == strides
    with torch.no_grad():
        model.model.eval()(torch.rand(1, 3, 128, 160))  # cells for the 300 queries of RT-DETR


def test_the_head_reads_the_maps_that_it_read() -> None:
    """yolo11 reads its layers 4, 6 and 10: the stages at strides 8 and 16, and what C2PSA gives."""
    model = small("own").model
    read = {name: host.path for name, host in layout(model.model, 6, 3).named.items()}
    assert {name: read[name] for name in ("P3", "P4", "P5")} == {"P3": "1", "P4": "2", "P5": "5"}
    stock = tasks.yaml_model_load("yolo11n.yaml")
    moved = {4: 1, 6: 2, 10: 5, 13: 8, 16: 11, 19: 14, 22: 17}
    for (before, *_), (after, *_) in zip(stock["head"], model.yaml["head"], strict=True):
        many, now = ([s] if isinstance(s, int) else s for s in (before, after))
        assert now == [moved.get(s, s) for s in many]


def test_a_classifier_that_stays_at_stride_16_is_pooled_once_more() -> None:
    """BoTNet-S1's stages are at 4, 8, 16 and 16: the last is read at 16, and pooled at 32."""
    Path("own.yaml").write_text("base: yolo11n.yaml\nbackbone: [botnet_s1_50, {width: 8}]")
    model = attngraft.YOLO("own.yaml").model
    assert model.stride.tolist() == [8, 16, 32]
    assert [row[2:] for row in model.yaml["backbone"][1:4]] == [["Index", [64, 1]], ["Index", [256, 3]], POOL[2:]]
    assert layout(model.model, 6, 3).named["P4"].path == "2"
    Path("own-cls.yaml").write_text("base: yolo11n-cls.yaml\nbackbone: [botnet_s1_50, {width: 8}]")
    assert attngraft.YOLO("own-cls.yaml").model.yaml["backbone"][1][2:] == ["Index", [256, 3]]


@pytest.mark.parametrize("name", ["yolov8n-cls-resnet50.yaml", "rtdetr-resnet50.yaml"])
def test_names_that_the_host_has_keep_the_hosts_meaning(name: str) -> None:
    rows = tasks.yaml_model_load(name)["backbone"]
    assert ROW not in [row[2] for row in rows]
    assert resolve_base(name.removesuffix(".yaml")) == name


def test_the_hosts_yaml_is_left_as_it_is() -> None:
    stock = tasks.yaml_model_load("yolo11n.yaml")
    exchange(stock, "resnet50", {"width": 8})
    assert stock == tasks.yaml_model_load("yolo11n.yaml")


@pytest.mark.parametrize(
    ("base", "name", "message"),
    [
        ("yolov8n-p6.yaml", "botnet50", "reads layers 4, 6, 8, 11; use a base such as yolo11n"),
        ("yolo11n.yaml", "botnet5", "no model is called 'botnet5'; did you mean"),
    ],
)
def test_what_does_not_fit_says_so(base: str, name: str, message: str) -> None:
    with pytest.raises((ValueError, LookupError), match=message):
        exchange(tasks.yaml_model_load(base), name)


def test_pictures_of_other_channels() -> None:
    stock = {**exchange(tasks.yaml_model_load("yolo11n.yaml"), "resnet50", {"width": 8}), "channels": 5}
    model = tasks.DetectionModel(stock, ch=5, verbose=False)
    assert model.model[0].body.conv1.in_channels == 5


@pytest.fixture(scope="module")
def trained(tiny_data: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNGRAFT_CACHE", str(folder / "cache"))
        (folder / "yolo11n-mine.yaml").write_text(SMALL)
        model = attngraft.YOLO(folder / "yolo11n-mine.yaml")
        model.train(data=tiny_data("detect"), project=str(folder), name="run", **TRAIN)
    return folder / "run" / "weights" / "best.pt"


def test_a_trained_checkpoint_opens_in_a_process_that_never_imported_us(trained: Path, fresh: Any) -> None:
    picture = torch.rand(1, 3, 96, 64)
    torch.save(picture, "picture.pt")
    with torch.no_grad():
        expected = StockYOLO(trained).model.float().eval()(picture)[0]
    fresh(f"""
import torch, ultralytics
model = ultralytics.YOLO({str(trained)!r}).model.float().eval()
with torch.no_grad():
    torch.save(model(torch.load("picture.pt"))[0], "answer.pt")
""")
    assert torch.equal(torch.load("answer.pt"), expected)


def test_safe_loading_takes_it(trained: Path) -> None:
    checkpoint, _ = tasks.torch_safe_load(str(trained), safe_only=True)
    assert any(".body." in key for key in checkpoint["model"].state_dict())


@pytest.mark.filterwarnings("ignore:The feature will be removed", "ignore:Constant folding")
def test_onnx_gives_its_numbers_at_two_sizes(trained: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = StockYOLO(trained)
    network = StockYOLO(trained).model.float().eval()
    session = onnxruntime.InferenceSession(model.export(format="onnx", imgsz=64, dynamic=True, simplify=False))
    for size in ((64, 64), (96, 160)):
        x = torch.rand(1, 3, *size)
        with torch.no_grad():
            expected = network(x)[0]
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=2e-3, rtol=1e-4)


def test_weights_of_a_classifier_reach_the_backbone_and_survive_the_hosts_rebuild(tiny_data: Any) -> None:
    model = small("own")
    classifier = create("resnet50", width=8)
    classifier.layer1[0].conv1.weight.data.fill_(3)  # type: ignore[index, union-attr]
    load_shared(model.model.model[0].body, classifier.state_dict())
    model.save("start.pt")
    again = attngraft.YOLO("start.pt")
    again.train(data=tiny_data("detect"), project="runs", name="run", **{**TRAIN, "lr0": 0.0, "freeze": 1})
    assert again.trainer.model.state_dict()["model.0.body.layer1.0.conv1.weight"].eq(3).all()


@pytest.mark.parametrize("name", ["dilateformer_tiny", "flatten_swin_tiny", "mobilenetv3_small"])
def test_every_family_of_classifiers_lives_in_a_checkpoint(name: str) -> None:
    model = attngraft.YOLO(f"yolo11n-{name}.yaml")
    model.save("whole.pt")
    whole = tasks.torch_safe_load("whole.pt", safe_only=True)[0]["model"].float().eval()
    picture = torch.rand(1, 3, 96, 64)
    with torch.no_grad():
        assert torch.equal(whole(picture)[0], model.model.half().float().eval()(picture)[0])  # as the host saves it
