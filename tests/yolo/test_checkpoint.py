"""Grafted files: written whole or not at all, opened with one clear sentence when they cannot be."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics import YOLO as StockYOLO
from ultralytics.nn.tasks import DetectionModel

import attngraft
from attngraft._core.errors import CheckpointError, OutputError, PlaceError
from attngraft.yolo.model import _warn_once, resolve_base


@pytest.fixture
def pretrained() -> Path:
    """A saved stock model: matching of keys does not depend on values."""
    StockYOLO("yolo11n.yaml").save("stock.pt")
    return Path("stock.pt")


def test_a_grafted_file_keeps_every_pretrained_tensor(pretrained: Path) -> None:
    file = attngraft.graft(str(pretrained), "mhsa@P5+se@P4", "grafted.pt")
    stock, mine = StockYOLO(pretrained).model.state_dict(), StockYOLO(file).model.state_dict()
    assert len(stock) == 499
    assert all(torch.equal(value, mine[key]) for key, value in stock.items())


def test_a_recipe_on_weights_starts_with_their_numbers(pretrained: Path) -> None:
    picture = torch.rand(1, 3, 64, 64)
    stock, mine = StockYOLO(pretrained).model.eval(), attngraft.YOLO(f"{pretrained}+mhsa@P5").model.eval()
    with torch.no_grad():
        assert torch.equal(stock(picture)[0], mine(picture)[0])


def test_grafts_add_up_over_files(pretrained: Path) -> None:
    first = attngraft.graft(str(pretrained), "se@P5", "first.pt")
    second = attngraft.graft(str(first), "eca@P4", "second.pt")
    assert StockYOLO(second).model.yaml["attngraft"] == "se@P5+eca@P4"


def test_nothing_is_overwritten_unasked(pretrained: Path) -> None:
    Path("mine.pt").write_text("precious")
    with pytest.raises(OutputError, match=r"mine\.pt exists and is left as it is"):
        attngraft.graft(str(pretrained), "se@P5", "mine.pt")
    assert Path("mine.pt").read_text() == "precious"
    attngraft.graft(str(pretrained), "se@P5", "mine.pt", overwrite=True)
    StockYOLO("mine.pt")


def test_a_failure_leaves_no_file_behind(pretrained: Path) -> None:
    with pytest.raises(PlaceError, match="no place P7"):
        attngraft.graft(str(pretrained), "se@P7", "new.pt")
    Path("blocked").write_text("")
    with pytest.raises(OutputError, match=r"cannot write blocked/new\.pt"):
        attngraft.graft(str(pretrained), "se@P5", "blocked/new.pt")
    with pytest.raises(OutputError, match=r"ends in \.pt"):
        attngraft.graft(str(pretrained), "se@P5", "new.onnx")
    assert not list(Path().glob("*new*"))


def test_a_truncated_file_is_named(pretrained: Path) -> None:
    Path("half.pt").write_bytes(pretrained.read_bytes()[:20_000])
    with pytest.raises(CheckpointError, match=r"half\.pt is not a checkpoint, or a damaged one \(20,000 bytes\)"):
        attngraft.YOLO("half.pt")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda model: model.state_dict(), r"holds 355 tensors and no model \(a state dict\); give the best.pt"),
        (lambda model: {"state_dict": model.state_dict(), "epoch": 3}, "holds 355 tensors and no model"),
        (lambda model: {"model": model.state_dict(), "ema": None}, "holds 355 tensors and no model"),
        (lambda _: {"model": None, "ema": None}, "holds a dict and no model"),
        (lambda _: [1, 2], "holds a list and no model"),
        (lambda _: torch.nn.Linear(2, 3), "holds a Linear and no model"),
        (lambda model: model, "holds a bare module and no checkpoint; write it with the save"),
    ],
)
@pytest.mark.parametrize("grafts", ["", "+se@P4"])
def test_a_file_without_a_model_says_what_it_holds(tmp_path: Path, make: Any, said: str, grafts: str) -> None:
    """The host says of each that it `references types outside the supported checkpoint format`, or ends in a slip."""
    file = tmp_path / "weights.pt"
    torch.save(make(DetectionModel("yolov8n.yaml", nc=2, verbose=False)), file)
    with pytest.raises(CheckpointError, match=rf"weights\.pt {said}"):
        attngraft.YOLO(f"{file}{grafts}")


def test_what_is_said_of_a_state_dict_works(tmp_path: Path) -> None:
    state = DetectionModel("yolov8n.yaml", verbose=False).state_dict()
    model = attngraft.YOLO("yolov8n.yaml")
    model.model.load_state_dict(state)
    model.save(tmp_path / "best.pt")
    again = attngraft.YOLO(tmp_path / "best.pt").model.state_dict()
    assert all(torch.allclose(again[key].float(), value.float(), rtol=2e-3, atol=1e-3) for key, value in state.items())


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_an_export_to_torchscript_is_told_from_a_damaged_file(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 3), torch.rand(1, 2)), str(tmp_path / "model.pt"))
    with pytest.raises(CheckpointError, match=r"model\.pt is an export to TorchScript .* name it model\.torchscript"):
        attngraft.YOLO(tmp_path / "model.pt")


def test_a_foreign_class_is_named_and_nothing_is_installed(fresh: object) -> None:
    code = """
import sys, torch, types
package = types.ModuleType("somebodys_package")
exec("import torch\\nclass Block(torch.nn.Module): pass", package.__dict__)
package.Block.__module__ = "somebodys_package"
sys.modules["somebodys_package"] = package
torch.save({"model": package.Block()}, "foreign.pt")
"""
    fresh(code)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=r"holds somebodys_package\.Block, which is not installed here"):
        attngraft.YOLO("foreign.pt")


def test_a_file_that_is_not_there_is_not_looked_for_on_the_network() -> None:
    with pytest.raises(CheckpointError, match=r"there is no file nowhere\.pt"):
        attngraft.YOLO("nowhere.pt+se@P5")


def test_a_bare_stem_without_weights_says_that_it_starts_untrained(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    logging.getLogger("ultralytics").propagate = True
    _warn_once.cache_clear()  # another test of this process may have been warned
    assert resolve_base("yolo11n") == "yolo11n.yaml"
    assert "building yolo11n.yaml with random weights" in caplog.text


def test_a_path_with_an_apostrophe_is_opened_and_not_its_neighbour(pretrained: Path, tmp_path: Path) -> None:
    """Ultralytics leaves the apostrophe out, and opened its.pt for it's.pt."""
    folder = tmp_path / "Ann's runs"
    folder.mkdir()
    attngraft.YOLO(f"{pretrained}+se@P3").save(folder / "it's.pt")
    attngraft.YOLO(f"{pretrained}+eca@P3").save(folder / "its.pt")
    for name, mechanism in (("it's.pt", "se"), ("its.pt", "eca")):
        for opened in (attngraft.YOLO(folder / name), StockYOLO(folder / name)):
            assert any(isinstance(part, attngraft.info(mechanism).cls) for part in opened.model.modules())
    assert attngraft.YOLO(f"{folder}/it's.pt+simam@P4").model


def test_a_plain_model_opens_as_the_host_opens_it(pretrained: Path) -> None:
    model = attngraft.YOLO(pretrained)
    assert isinstance(model, attngraft.YOLO)
    assert len(model.model.state_dict()) == 499
    assert type(attngraft.YOLO("rtdetr-l.yaml+se@P5")).__name__ == "RTDETR"


def test_a_checkpoint_of_version_0_1_gives_its_numbers() -> None:
    """Written by 0.1.0 before rooms moved, with grafts after a layer and an inner module, and BoTNet's own rule."""
    data = Path(__file__).parent / "data"
    seen = torch.load(data / "grafted-0.1.0-output.pt")
    model = attngraft.YOLO(data / "grafted-0.1.0.pt").model.float().eval()
    assert sorted({type(m).__name__ for m in model.modules() if type(m).__module__.startswith("attngraft")}) == [
        "BoTConv", "ECA", "Graft", "MHSA", "SE",
    ]  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(model(seen["image"] / 255)[0], seen["output"], atol=1e-3, rtol=1e-4)


def test_activations_that_a_rebuild_replaces_are_counted_when_grafting(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    logging.getLogger("ultralytics").propagate = True
    stock = StockYOLO("yolo11n.yaml")
    parts = [part for part in stock.model.modules() if isinstance(getattr(part, "act", None), torch.nn.SiLU)]
    for part in parts:
        part.act = torch.nn.ReLU()
    stock.save("relu.pt")
    grafted = attngraft.YOLO("relu.pt+se@P5").model
    assert f"{len(parts)} layers of relu.pt, such as ReLU at model.0.act, are of another class" in caplog.text
    assert type(grafted.model[0].act) is torch.nn.ReLU, "prediction keeps them"
    rebuilt = type(grafted)(copy.deepcopy(grafted.yaml), nc=80, verbose=False)
    assert type(rebuilt.model[0].act) is torch.nn.SiLU


def test_tensors_that_a_rebuild_drops_are_counted_when_grafting(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    logging.getLogger("ultralytics").propagate = True
    stock = StockYOLO("yolo11n.yaml")
    conv = stock.model.model[9].cv1.conv
    stock.model.model[9].cv1.conv = torch.nn.Conv2d(conv.in_channels, conv.out_channels, 1)  # with a bias
    stock.model.model[23].cv3[0][2] = torch.nn.Conv2d(80, 7, 1)  # another shape, weight and bias
    stock.save("edited.pt")
    model = attngraft.YOLO("edited.pt+se@P5").model
    assert "3 of the 500 pretrained tensors of edited.pt, such as model.9.cv1.conv.bias" in caplog.text
    rebuilt = type(model)(copy.deepcopy(model.yaml), nc=80, verbose=False).state_dict()
    assert sum(rebuilt[k].shape != v.shape if k in rebuilt else True for k, v in model.state_dict().items()) == 3
    assert "of another class" not in caplog.text
    caplog.clear()
    StockYOLO("yolo11n.yaml").save("whole.pt")
    attngraft.YOLO("whole.pt+se@P5")
    assert "pretrained tensors" not in caplog.text
