"""Checkpoints looked at as archives: bombs are refused before they unpack, numbers are read without unpickling."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from attngraft._core.archive import check_unpacked, number_after, strings
from attngraft._core.errors import CheckpointError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    file = tmp_path / "last.pt"
    torch.save({"epoch": 7, "best": 0.5, "model": nn.Linear(3, 2), "date": "2026-01-01"}, file)
    return file


def bomb(file: Path, name: str = "last/data.pkl", mebibytes: int = 200) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as entry:
        for _ in range(mebibytes):
            entry.write(bytes(1 << 20))
    return file


@pytest.mark.parametrize("name", ["last/data.pkl", "last/data/0"])
def test_a_bomb_is_refused_with_both_sizes(tmp_path: Path, name: str) -> None:
    file = bomb(tmp_path / "bomb.pt", name)
    assert file.stat().st_size < 1 << 20
    with pytest.raises(CheckpointError, match=r"bomb\.pt has [\d,]+ bytes and would unpack to 209,715,200"):
        check_unpacked(file)
    with pytest.raises(CheckpointError, match="would unpack to"):
        list(strings(file))


def test_real_checkpoints_pass_compressed_too(checkpoint: Path, tmp_path: Path) -> None:
    check_unpacked(checkpoint)
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    check_unpacked(packed)
    assert number_after(packed, "epoch") == 7


def test_numbers_are_read_by_key(checkpoint: Path) -> None:
    assert number_after(checkpoint, "epoch") == 7
    assert number_after(checkpoint, "best") is None
    assert number_after(checkpoint, "gone") is None


@pytest.mark.parametrize("epoch", [-1, 0, 255, 256, 70_000, 2**40])
def test_numbers_of_any_size(tmp_path: Path, epoch: int) -> None:
    torch.save({"epoch": epoch}, tmp_path / "a.pt")
    assert number_after(tmp_path / "a.pt", "epoch") == epoch


def test_strings_come_in_order(checkpoint: Path) -> None:
    found = [text for text in strings(checkpoint) if text in ("epoch", "best", "model", "2026-01-01")]
    assert found == ["epoch", "best", "model", "2026-01-01"]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda _: b"", lambda _: b"PK\x03\x04" + bytes(99)])
def test_damage_is_one_error(checkpoint: Path, damage: object) -> None:
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))  # type: ignore[operator]
    check_unpacked(checkpoint)
    with pytest.raises(CheckpointError, match=r"last\.pt is not a checkpoint, or a damaged one"):
        number_after(checkpoint, "epoch")


def test_a_damaged_pickle_is_named(checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pt"
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile(broken, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, content[:30] if entry.filename.endswith("data.pkl") else content)
    with pytest.raises(CheckpointError, match="damaged"):
        list(strings(broken))
