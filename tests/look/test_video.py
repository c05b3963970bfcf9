"""A detection followed through a real video: where it goes, what is drawn, and what is lost."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from attngraft._core.errors import DataError, OptionError
from attngraft.look.video import BAR, Film, film, overlaid
from attngraft.maps import Prepared
from tests.maps.beacons import scenes, watched


def clip(file: Path, frames: list[np.ndarray], rate: float = 10) -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), rate, (width, height))
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return file


def read(file: Path) -> tuple[list[np.ndarray], float]:
    reader, frames = cv2.VideoCapture(str(file)), []
    while (step := reader.read())[0]:
        frames.append(step[1][..., ::-1])
    return frames, reader.get(cv2.CAP_PROP_FPS)


@pytest.fixture
def moving(tmp_path: Path) -> Path:
    """A scene that moves by two pixels a frame, an empty frame, and the scene again."""
    scene = scenes(1)[0].image
    frames = [np.roll(scene, 2 * step, 1) for step in range(3)]
    return clip(tmp_path / "clip.avi", [*frames, np.full_like(scene, 90), frames[2]])


def test_follows_and_says_where_it_was_lost(moving: Path, tmp_path: Path) -> None:
    for name in ("look.mp4", "look-2.mp4"):  # nothing is overwritten
        made = film(watched("global"), moving, tmp_path / "look.mp4", imgsz=96)
        assert made == Film(tmp_path / name, 5, 4)
    frames, rate = read(made.file)
    assert (len(frames), rate) == (5, 10)
    assert frames[0].shape == (96 + BAR, 96, 3)
    colour = [float(np.ptp(frame[BAR:].astype(float), axis=2).mean()) for frame in frames]
    assert colour[3] < 5 < min(colour[:3])  # no map on the empty frame


def test_starts_from_the_frame_that_is_chosen(moving: Path, tmp_path: Path) -> None:
    made = film(watched("global"), moving, tmp_path / "look.avi", imgsz=96, frame=2, layers=["model.3"])
    assert (made.frames, made.followed) == (3, 2)
    with pytest.raises(OptionError, match="frame 4 has 0 detections"):
        film(watched("global"), moving, tmp_path / "none.avi", imgsz=96, frame=3)
    with pytest.raises(DataError, match=r"clip\.avi has no frame 10"):
        film(watched("global"), moving, tmp_path / "none.avi", imgsz=96, frame=9)
    assert not (tmp_path / "none.avi").exists()


def test_a_map_lies_where_its_cells_are() -> None:
    """A frame of 40 x 20 stands in an input of 20 x 20 at half its size, with 5 pixels above."""
    heat = np.zeros((4, 4), np.float32)
    heat[1, 2] = 1  # rows 5 to 10 and columns 10 to 15 of the input: rows 0 to 10 and columns 20 to 30 of the frame
    prepared = Prepared(torch.zeros(1, 3, 20, 20), (0.5, 0.5), (0.0, 5.0))
    shown = overlaid(np.full((20, 40, 3), 200, np.uint8), heat, prepared).astype(int)
    bright = np.argwhere(shown[..., 1] > 200)
    np.testing.assert_allclose((bright.min(0), bright.max(0)), ((0, 20), (9, 29)), atol=1)
