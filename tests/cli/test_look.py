"""The command: one sentence for each bad input, and a file with the command in its metadata."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from attngraft.cli import main


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(file)
    return file


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["look", *map(str, words)])
    return result.exit_code, result.output


def test_writes_a_sheet_with_its_command(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    for name in ("sheet.png", "sheet-2.png"):
        code, said = run("attngraft-micro.yaml+mhsa@P3", image, "imgsz=96", "conf=0.001", "detection=1", "-o", out)
        assert code == 0, said
        assert f"{tmp_path / name} written" in said
    with Image.open(out) as sheet:
        assert str(sheet.info["Command"]).startswith("attngraft look attngraft-micro.yaml+mhsa@P3")


def test_no_detection_is_reported(image: Path, tmp_path: Path) -> None:
    code, said = run("attngraft-micro.yaml+mhsa@P3", image, "imgsz=96", f"output={tmp_path / 'look.npz'}")
    assert code == 0
    assert "image.png: no detection scores 0.25 or more, so only what was mixed is shown; lower confidence=" in said


@pytest.mark.parametrize(
    ("words", "said", "status"),
    [
        (["attngraft-micro.yaml+mhsa@P3"], "say which model and which images", 2),
        (["attngraft-micro.yaml+mhsa@P3", "IMAGE", "confidnce=1"], "did you mean confidence?", 2),
        (["attngraft-micro.yaml+mhsa@P3", "IMAGE", "scores=7"], "scores=True or scores=False", 2),
        (["attngraft-micro.yaml+mhsa@P3", "IMAGE", "detection=0"], "detection=1 for the first", 2),
        (["attngraft-micro.yaml+mhsa@P3", "IMAGE", "detection=True"], "detection=1 for the first", 2),
        (["attngraft-micro.yaml+mhsa@P3", "IMAGE", "image=2"], "1 images, the first is image=1; got image=2", 2),
        (["attngraft-micro.yaml+mhsa@P3", "IMAGE", "detection=99", "limit=3"], "got detection=99; lower confidence", 2),
        (["attngraft-micro.yaml+mhsa@P3", "IMAGE", "output=look.pdf"], "look writes .html, .png, .svg, .npz", 2),
        (["attngraft-micro.yaml+mhsa@P3", "IMAGE", "layers=model.99"], "no layer 'model.99'", 1),
        (["attngraft-micro.yaml+mhsa@P3", "nowhere.jpg"], "nowhere.jpg cannot be read", 1),
        (
            ["attngraft-micro.yaml+mhsa@P3", "IMAGE", "output=/dev/null/look.html"],
            "cannot write /dev/null/look.html",
            1,
        ),
        (["attngraft-micro.yaml", "IMAGE"], "has no attention or gate", 1),
        (["EXPORTED", "IMAGE"], "is an exported file", 1),
        (["attngraft-micro.yaml+mhsa@P3", "nowhere.mp4"], "nowhere.mp4 cannot be read", 1),
        (["attngraft-micro.yaml+mhsa@P3", "BROKEN"], "broken.mp4 is not a video that can be opened", 1),
        (["attngraft-micro.yaml+mhsa@P3", "BROKEN", "scores=True"], "a video is looked at alone", 2),
        (["attngraft-micro.yaml+mhsa@P3", "BROKEN", "output=look.gif"], "look writes videos as .mp4 or .avi", 2),
        (["attngraft-micro.yaml+mhsa@P3", "IMAGE", "frame=2"], "frame is for a video", 2),
        (["attngraft-micro.yaml+mhsa@P3", "IMAGE", "port=80"], "goes with --serve", 2),
        (["nowhere.ckpt", "IMAGE"], "nowhere.ckpt does not exist", 1),
    ],
)
def test_bad_input_gets_a_sentence(words: list[str], said: str, status: int, image: Path, tmp_path: Path) -> None:
    exported = tmp_path / "best.onnx"
    exported.touch()
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    known = {"IMAGE": str(image), "EXPORTED": str(exported), "BROKEN": str(broken)}
    given = [known.get(word, word) for word in words]
    code, output = run(*given, "imgsz=96", "confidence=0.001") if "confidnce=1" not in given else run(*given)
    assert said in output
    assert code == status
    assert "Traceback" not in output
    assert not list(Path().glob("look*"))


@pytest.mark.parametrize("size", ["0", "-3", "64,0", "nan", "640.5"])
def test_a_size_that_is_none(size: str, image: Path) -> None:
    code, said = run("attngraft-micro.yaml+mhsa@P3", image, f"imgsz={size}")
    assert code == 2
    assert "look takes imgsz=640, or a height and a width as in imgsz=480,640, got imgsz=" in said


def test_an_image_that_is_not_there_is_told_before_the_work(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attngraft.look.asking.collect", pytest.fail)
    assert run("attngraft-micro.yaml+mhsa@P3", image, "image=2", "-o", "look.png")[0] == 2


@pytest.mark.parametrize("suffix", ["html", "png", "svg", "npz"])
def test_a_name_that_is_in_another_encoding(suffix: str, image: Path, tmp_path: Path) -> None:
    named = Path(os.fsdecode(os.fsencode(tmp_path / "looked-at-") + "测试".encode("gbk") + b".png"))
    image.rename(named)
    code, said = run("attngraft-micro.yaml+mhsa@P3", named, "imgsz=96", "-o", tmp_path / f"look.{suffix}")
    assert code == 0, said
    if suffix in ("html", "svg"):
        assert "looked-at-\N{REPLACEMENT CHARACTER}" in (tmp_path / f"look.{suffix}").read_text(encoding="utf-8")


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1)])
def test_an_image_of_one_pixel(shape: tuple[int, int], tmp_path: Path) -> None:
    Image.fromarray(np.full((*shape, 3), 99, np.uint8)).save(tmp_path / "thin.png")
    code, said = run("attngraft-micro.yaml+mhsa@P3", tmp_path / "thin.png", "imgsz=96", "-o", tmp_path / "look.html")
    assert code == 0, said
    assert (tmp_path / "look.html").is_file()


def test_a_folder_that_nobody_may_write_to(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, int]] = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append((Path(path), mode)))  # root may write anywhere
    code, said = run("attngraft-micro.yaml+mhsa@P3", image, "-o", tmp_path / "sub" / "look.html")
    assert code == 1
    assert f"cannot write {tmp_path / 'sub' / 'look.html'} in {tmp_path}; choose another file with -o" in said
    assert asked == [(tmp_path, os.W_OK)]


def test_a_video_whose_end_is_cut_off(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(tmp_path / "whole.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for _ in range(20):
        writer.write(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    writer.release()
    whole = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])
    words = ("imgsz=64", "confidence=0", "-o", tmp_path / "look.avi")
    code, said = run("attngraft-micro.yaml+mhsa@P3", tmp_path / "half.avi", *words)
    assert code == 0, said
    read, missing = map(int, re.search(r"of (\d+) frames; the video says that it has (\d+) more", said).groups())  # type: ignore[union-attr]
    assert read + missing == 20
    assert 5 < read < 15
    code, said = run("attngraft-micro.yaml+mhsa@P3", tmp_path / "whole.avi", "frame=10", *words)
    assert re.search(r"followed in \d+ of 11 frames$", said.strip())
