"""Any name that a file system allows: in folders, files and classes, through training to predictions."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from attngraft._core.errors import DataError, OutputError
from attngraft.fit import Fit, load, predict
from attngraft.fit.data.folders import read_classes
from attngraft.fit.data.images import images_in

NAMES = {
    "quotes": 'it\'s "quoted"',
    "blanks": " a  b ",
    "hash": "#1",
    "percent": "100%s%20",
    "chinese": "玫瑰花",
    "right to left": "وردة",
    "two hundred": "x" * 200,
    "brackets": "[a]{b}*?",
    "colon": "a:b",
    "line break": "a\nb",
    "separator": "a\u2028b",
    "dash": "-rf",
    "tilde": "~root",
    "number": "007",
    "yaml": "no: yes",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_run_works_under_any_name(colours: Path, begin: Callable[..., Fit], name: str) -> None:
    data = Path(name) / name
    for split in ("train", "val"):
        for old, new in {"red": name, "blue": "plain"}.items():
            shutil.copytree(colours / split / old, data / split / new)
        (data / split / name / "0.png").rename(data / split / name / f"{name}.png")
    result = begin(data, out=f"{name}-run").run()
    trained = load(result.folder)
    assert set(trained.classes) == {name, "plain"}
    assert trained.options.data == str(data)
    found = predict(trained, data / "val" / name, f"{name}-out")
    assert len(found) == 4
    assert all(one is not None for one in found)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_detections_are_written_under_any_name(shapes: Path, begin: Callable[..., Fit], name: str) -> None:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            shutil.copytree(shapes / kind / split, Path(name, kind, split))
        image = Path(name, "images", split, "0.png")
        image.rename(image.with_name(f"{name}.png"))
        Path(name, "labels", split, "0.txt").rename(Path(name, "labels", split, f"{name}.txt"))
    names = json.dumps({0: name, 1: "green"}, ensure_ascii=True)
    Path(name, "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {names}\n")
    trained = load(begin(Path(name), "tiny_detector", imgsz=64, batch=4).run().folder)
    assert trained.classes == (name, "green")
    predict(trained, Path(name, "images/val"), "out", confidence=0)
    rows = json.loads(Path("out/predictions.json").read_text())
    assert f"{name}.png" in {Path(row["file_name"]).name for row in rows}
    assert Path("out", f"{name}.png").is_file()


def test_a_folder_that_lightning_would_cut_in_two_is_refused_before_the_run(
    colours: Path, begin: Callable[..., Fit]
) -> None:
    with pytest.raises(OutputError, match="/a::b holds '::', at which Lightning would cut its path"):
        begin(colours, out="a::b").run()
    assert not list(Path().iterdir())


def test_a_name_of_two_hundred_and_fifty_bytes_leaves_room_for_a_number(
    colours: Path, begin: Callable[..., Fit]
) -> None:
    trained = load(begin(colours).run().folder)
    Path("images/more").mkdir(parents=True)
    for folder in ("images", "images/more"):
        Image.new("RGB", (9, 9)).save(Path(folder, "花" * 83 + ".png"))
    assert len(predict(trained, "images", "out")) == 2


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such names")
def test_names_that_are_not_utf8_are_refused_before_the_run(colours: Path, tmp_path: Path) -> None:
    shutil.copytree(colours / "train", "data/train")
    odd = os.fsencode(str(tmp_path / "data/train/red")) + b"/\xff.png"
    shutil.copy(colours / "train/red/0.png", odd)
    with pytest.raises(DataError, match=r"\\udcff.png' has a name that is not UTF-8; rename it"):
        images_in(Path("data/train/red"))
    os.remove(odd)
    os.rename("data/train/red", os.fsencode(str(tmp_path / "data/train")) + b"/\xff")
    with pytest.raises(DataError, match="has a name that is not UTF-8"):
        read_classes(Path("data"), "train")
