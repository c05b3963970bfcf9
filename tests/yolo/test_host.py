"""What other rooms ask of Ultralytics."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from attngraft._core.errors import DataError, MissingPackageError
from attngraft.cli import main
from attngraft.yolo import YOLO, host


def test_keys_are_those_of_the_verb_and_of_every_run() -> None:
    assert {"epochs", "trainer", "imgsz"} <= set(host.known_keys("train"))
    assert {"source", "persist", "tracker"} <= set(host.known_keys("track"))
    assert not {"self", "args", "kwargs"} & set(host.known_keys("predict"))


@pytest.mark.parametrize(
    "key", ["half", "label_smoothing", "hide_labels", "hide_conf", "boxes", "line_thickness", "crop_fraction"]
)
def test_keys_of_earlier_releases_are_taken_as_the_host_takes_them(
    key: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    assert host.still_takes(key)
    assert not host.still_takes(f"{key}s_")
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


def test_a_data_file_is_read_without_a_download(tiny_data: Callable[[str], str]) -> None:
    assert host.read_data(tiny_data("detect"))["nc"] == 2
    with pytest.raises(FileNotFoundError):
        host.read_data("nowhere.yaml")


def test_the_averaged_copy_follows_the_model() -> None:
    model = torch.nn.Linear(1, 1)
    copy = host.averaged_copy(model)
    before = copy.ema.weight.clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    copy.update(model)
    moved = (copy.ema.weight - before).item()
    assert 0 < moved < 1


def test_the_own_profiler_counts_a_stock_model() -> None:
    assert host.profiled_flops(YOLO("attngraft-micro.yaml").model, 64) > 1e6


def test_a_worker_script_trains_the_model_that_it_names(tiny_data: Callable[[str], str]) -> None:
    opened = YOLO("attngraft-micro.yaml+se@P3")
    trainer = host.trainer(opened, {"data": tiny_data("detect"), "device": "cpu", "imgsz": 64})
    assert any(".grafts." in key for key in trainer.model.state_dict())
    with host.worker_script(trainer) as script:
        assert script.is_file()
    assert not script.exists()


@pytest.mark.parametrize(
    ("module", "line"),
    [("lap", "'lap>=0.5.12'"), ("sklearn.cluster", "'scikit-learn'"), ("ai_edge_litert", "'ai-edge-litert'")],
)
def test_a_missing_package_of_ultralytics_has_its_pip_line(module: str, line: str) -> None:
    package = module.partition(".")[0]
    with (
        pytest.raises(MissingPackageError, match=f"track needs the Python package {package}, .*pip install {line}$"),
        host.packages_named("track"),
    ):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def test_a_fault_of_ours_is_no_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError), host.packages_named("track"):
        importlib.import_module("attngraft.nothing_of_that_name")


def test_track_without_its_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lap", None)
    monkeypatch.delitem(sys.modules, "ultralytics.trackers.utils.matching", raising=False)
    for name in [name for name in sys.modules if name.startswith("ultralytics.trackers")]:
        monkeypatch.delitem(sys.modules, name)
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    result = CliRunner().invoke(
        main, ["track", "model=attngraft-micro.yaml", "imgsz=64", f"source={tmp_path / 'one.png'}"]
    )
    assert result.exit_code == 1
    assert "track needs the Python package lap, which is not installed; run: pip install 'lap>=0.5.12'" in result.output
    assert "Traceback" not in result.output


BOMB = "\n".join(["a: &x0 [1, 2, 3, 4]", *(f"b{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 9))])
"""Some hundred bytes that stand for 172 million values."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 3", "bomb.yaml is no data file: it holds no keys"),
        ("a: [", "bomb.yaml is not valid YAML"),
        (BOMB, "stands for more than 1,000,000 values"),
    ],
)
def test_a_data_file_of_a_stranger_is_read_within_bounds(text: str, message: str) -> None:
    Path("bomb.yaml").write_text(text)
    with pytest.raises(DataError, match=message):
        host.require_data("bomb.yaml")
    with pytest.raises(DataError, match=message):
        host.read_data("bomb.yaml")


def test_other_data_is_left_to_the_host() -> None:
    for data in (None, "coco8.yaml", "nowhere.yaml", "folder", ["a.yaml", "b.yaml"], 3):
        host.require_data(data)


TRACE = """
import importlib.util, os, socket, sys, traceback
home = os.path.dirname(importlib.util.find_spec("attngraft").origin)
tried = []

def refuse(*arguments, **_):
    ours = [frame for frame in traceback.extract_stack() if frame.filename.startswith(home)]
    names = {frame.name for frame in ours} - {"<module>"}  # the host asks whether it is online when it is imported
    tried.append((arguments[0], sorted(names)))
    raise socket.gaierror(-3, "no network")

socket.getaddrinfo = refuse
import attngraft
from attngraft._core.errors import CheckpointError

attngraft.YOLO("attngraft-micro.yaml+se@P3")
attngraft.YOLO("yolo11n")
attngraft.graft("yolo11n.yaml", "se@P5", "grafted.pt")
attngraft.YOLO("grafted.pt+eca@P4")
try:
    attngraft.YOLO("yolo11n.pt+se@P5")
except CheckpointError as error:
    print("SAID", error)
print("OURS", [one for one in tried if one[1]])
"""


def test_without_a_network_nothing_of_ours_asks_for_one(fresh: Callable[..., str]) -> None:
    said = fresh(TRACE, YOLO_OFFLINE="")
    assert "OURS []" in said
    assert "SAID yolo11n.pt was not found, and there is no network to download it; put the file here" in said


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("", "key missing. either 'names' or 'nc' are required"),
        ("names: []", "0-class dataset"),
        ("names: cat", "'names' must be list or dict, not str"),
    ],
)
def test_a_data_file_without_classes_is_told_what_it_lacks(tmp_path: Path, names: str, said: str) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(f"train: images\nval: images\n{names}\n")
    with pytest.raises(DataError, match=said) as raised:
        host.read_data(str(file))
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(file))
    assert "❌" not in str(raised.value)
