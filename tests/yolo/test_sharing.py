"""What differs from a base, written, and put back: bit for bit, onto that base alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from attngraft import YOLO
from attngraft._core.errors import CheckpointError, OutputError
from attngraft.data import beacons
from attngraft.yolo import checkpoint
from attngraft.yolo.sharing import apply_diff, checksum, diff, read_diff

safetensors = pytest.importorskip("safetensors.torch")

TRAINING = {"epochs": 1, "imgsz": 96, "batch": 8, "workers": 0, "plots": False, "device": "cpu", "verbose": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharing")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    YOLO("attngraft-micro.yaml").save(folder / "base.pt")
    return folder / "base.pt"


@pytest.fixture(scope="module")
def trained(folder: Path, base: Path) -> Path:
    """Return a checkpoint with other classes than the base has, trained from its weights."""
    data = beacons(folder / "data", rule="local", train=8, val=4)
    model = YOLO(f"{base}+mhsa@P3+se(reduction=8)@N3")
    model.train(data=data, project=str(folder / "runs"), freeze=3, **TRAINING)
    return Path(model.trainer.best)


def grafted(base: Path, file: Path) -> Path:
    """Write a checkpoint whose graft alone differs from its base."""
    model = YOLO(f"{base}+mhsa@P3")
    torch.nn.init.normal_(model.model.model[3].grafts[0].gamma)
    checkpoint.save(model.model, file, arguments={"task": "detect", "model": "x"})
    return file


def state(file: Path) -> dict[str, torch.Tensor]:
    return dict(YOLO(file).model.state_dict())


def test_a_trained_model_comes_back_bit_for_bit(base: Path, trained: Path, tmp_path: Path) -> None:
    told = diff(trained, base, tmp_path / "d.safetensors")
    assert (told.grafts, told.names, told.task) == ("mhsa@P3+se(reduction=8)@N3", ("red", "green"), "detect")
    again = apply_diff(tmp_path / "d.safetensors", base, tmp_path / "again.pt")
    before, after = state(trained), state(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    one, two = YOLO(trained).model.eval(), YOLO(again).model.eval()
    image = torch.rand(2, 3, 64, 96)
    assert torch.equal(one(image)[0], two(image)[0])
    assert YOLO(again).names == {0: "red", 1: "green"}


def test_a_model_that_was_trained_from_scratch_comes_back_too(base: Path, folder: Path, tmp_path: Path) -> None:
    data = beacons(folder / "data", rule="local", train=8, val=4)
    model = YOLO("attngraft-micro.yaml+ema(init=paper)@P3")
    model.train(data=data, project=str(tmp_path / "runs"), **TRAINING)
    diff(model.trainer.best, base, tmp_path / "d.safetensors")
    again = apply_diff(tmp_path / "d.safetensors", base, tmp_path / "again.pt")
    before, after = state(Path(model.trainer.best)), state(again)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_graft_on_a_frozen_base_is_all_that_the_file_holds(base: Path, tmp_path: Path) -> None:
    file = grafted(base, tmp_path / "g.pt")
    told = diff(file, base, tmp_path / "d.safetensors")
    assert (told.changed, told.added) == (0, len(read_diff(tmp_path / "d.safetensors")[1]))
    assert (tmp_path / "d.safetensors").stat().st_size < file.stat().st_size / 4


def test_another_base_is_refused(base: Path, tmp_path: Path) -> None:
    diff(grafted(base, tmp_path / "g.pt"), base, tmp_path / "d.safetensors")
    other = YOLO(base)
    with torch.no_grad():
        other.model.model[0].conv.weight[0, 0, 0, 0] += 1e-3
    other.save(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="belongs to another base than .*other.pt"):
        apply_diff(tmp_path / "d.safetensors", tmp_path / "other.pt", tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def test_what_is_no_pair_of_model_and_base_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give a grafted checkpoint"):
        diff(base, base, tmp_path / "d.safetensors")
    with pytest.raises(CheckpointError, match="no file .*gone.pt"):
        diff(tmp_path / "gone.pt", base, tmp_path / "d.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint with weights"):
        diff("attngraft-micro.yaml", base, tmp_path / "d.safetensors")


def test_files_that_exist_are_left_and_suffixes_are_asked_for(base: Path, tmp_path: Path) -> None:
    (tmp_path / "d.safetensors").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists and is left"):
        diff(base, base, tmp_path / "d.safetensors")
    with pytest.raises(OutputError, match="end in .safetensors"):
        diff(base, base, tmp_path / "d.pt")
    assert (tmp_path / "d.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "metadata", [{}, {"form": "attngraft-difference-1"}, {"form": "attngraft-difference-1", "difference": "[1]"}]
)
def test_files_of_other_programs_are_refused(metadata: dict[str, str], tmp_path: Path) -> None:
    safetensors.save_file({"a": torch.zeros(1)}, tmp_path / "d.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match="not a file of differences|does not say"):
        read_diff(tmp_path / "d.safetensors")
    (tmp_path / "e.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_diff(tmp_path / "e.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_diff(tmp_path / "gone.safetensors")


def test_grafts_that_do_not_fit_are_refused(base: Path, tmp_path: Path) -> None:
    diff(grafted(base, tmp_path / "g.pt"), base, tmp_path / "d.safetensors")
    told, tensors = read_diff(tmp_path / "d.safetensors")
    values = {"grafts": "se@P3", "base": "b", "base_checksum": told.base_checksum, "task": "detect", "added": 1}
    values |= {"names": list(told.names), "changed": 0, "total": 1}
    metadata = {"form": "attngraft-difference-1", "difference": json.dumps(values)}
    safetensors.save_file(tensors, tmp_path / "e.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        apply_diff(tmp_path / "e.safetensors", base, tmp_path / "x.pt")


def test_the_checksum_is_of_names_shapes_and_values() -> None:
    one = {"a": torch.arange(4.0), "b": torch.tensor(1)}
    assert checksum(one) == checksum({"b": torch.tensor(1), "a": torch.arange(4.0).half()})
    assert len({checksum(one), checksum({**one, "a": torch.arange(4.0).view(2, 2)}), checksum({"a": one["a"]})}) == 3
