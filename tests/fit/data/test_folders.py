"""Folders of classes and of pairs: what is read, and one sentence for each thing that can be wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attngraft._core.errors import DataError
from attngraft.fit.data.folders import read_classes, read_pairs


def test_classes_are_those_of_training_whatever_a_split_holds(colours: Path, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(colours / "train")
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid/red").symlink_to(colours / "val/red")
    (tmp_path / "valid/blue").mkdir()
    found = read_classes(tmp_path, "val")
    assert found.classes == ("blue", "green", "red")
    assert set(found.labels) == {2}  # torchvision's ImageFolder would call it 1
    (tmp_path / "valid/violet").mkdir()
    with pytest.raises(DataError, match="has the class 'violet', which .*train lacks"):
        read_classes(tmp_path, "val")


def test_what_programs_leave_is_no_class_and_a_class_needs_pictures(colours: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(colours / split, tmp_path / split)
        for name in (".ipynb_checkpoints", "__MACOSX"):
            (tmp_path / split / name).mkdir()
            shutil.copy(colours / "val/red/0.png", tmp_path / split / name)
        shutil.copy(colours / "val/red/0.png", tmp_path / split / "red/._0.png")
        found, clean = read_classes(tmp_path, split), read_classes(colours, split)
        assert (found.classes, found.labels) == (clean.classes, clean.labels)
    (tmp_path / "train/violet").mkdir()
    with pytest.raises(DataError, match="train/violet has no images; put the class's there, or remove the folder"):
        read_classes(tmp_path, "train")


def test_what_is_wrong_with_folders_is_said(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder train/"):
        read_classes(tmp_path, "train")
    with pytest.raises(DataError, match="nowhere is not a folder"):
        read_pairs(tmp_path / "nowhere", "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="train needs a folder a class"):
        read_classes(tmp_path, "train")
    with pytest.raises(DataError, match="train has no images"):
        read_pairs(tmp_path, "train")
    (tmp_path / "train/red").mkdir()
    with pytest.raises(DataError, match="has no images in the folders of its classes"):
        read_classes(tmp_path, "train")


def test_pairs_are_matched_by_name(tmp_path: Path) -> None:
    for name in ("hr/a.png", "hr/b.png", "lr/a.jpg", "lr/b.png"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).touch()
    found = read_pairs(tmp_path, "train")
    assert [file.name for file in found.low if file] == ["a.jpg", "b.png"]
    (tmp_path / "train/lr/b.png").unlink()
    with pytest.raises(DataError, match=r"hr/b.png has no partner of that name in .*lr"):
        read_pairs(tmp_path, "train")


def test_pairs_in_folders_are_matched_by_folder_and_name(tmp_path: Path) -> None:
    for name in ("hr/a/1.png", "hr/b/1.png", "hr/b/1.x2.png", "lr/a/1.jpg", "lr/b/1.png", "lr/b/1.x2.png"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).touch()
    found = read_pairs(tmp_path, "train")
    home = tmp_path / "train"
    assert [file.relative_to(home / "hr").as_posix() for file in found.high] == ["a/1.png", "b/1.png", "b/1.x2.png"]
    assert [file.relative_to(home / "lr").as_posix() for file in found.low if file] == [
        *("a/1.jpg", "b/1.png", "b/1.x2.png")
    ]
    (home / "lr/b/1.jpg").touch()
    with pytest.raises(DataError, match=r"lr/b/1.jpg and .*lr/b/1.png have one name, so their partner is unclear"):
        read_pairs(tmp_path, "train")
    (home / "lr/b/1.jpg").unlink()
    (home / "lr/a/1.jpg").unlink()
    with pytest.raises(DataError, match=r"hr/a/1.png has no partner of that name in .*lr"):
        read_pairs(tmp_path, "train")
