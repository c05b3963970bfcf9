"""The images that an export is compared on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from attngraft._core.errors import DataError
from attngraft.yolo.export_images import batches, images, other_sizes


def test_generated_images_are_the_same_at_every_call() -> None:
    first, second = (list(images(None, None, 2)) for _ in range(2))
    assert len(first) == 2
    assert all(map(np.array_equal, first, second))


def test_images_of_a_folder_are_read_as_opencv_reads_them(tmp_path: Path) -> None:
    for index in range(3):
        Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / f"{index}.png")
    (tmp_path / "notes.txt").write_text("")
    (red, other) = images(tmp_path, None, 2)
    assert red.shape == other.shape == (6, 8, 3)
    assert red[0, 0].tolist() == [0, 0, 255]


def test_images_of_a_classifiers_folder_are_those_of_its_validation(tmp_path: Path) -> None:
    for split, grey in (("train", 10), ("val", 200)):
        (tmp_path / split / "cat").mkdir(parents=True)
        Image.new("RGB", (8, 6), (grey,) * 3).save(tmp_path / split / "cat" / "0.png")
    (image,) = images(None, str(tmp_path), 4)
    assert image[0, 0].tolist() == [200, 200, 200]


def test_images_of_a_list_may_have_spaces_and_start_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "my images").mkdir()
    for name, grey in (("my images/a b.png", 10), ("c.png", 200)):
        Image.new("RGB", (8, 6), (grey,) * 3).save(tmp_path / name)
    (tmp_path / "val.txt").write_text(f"{tmp_path}/my images/a b.png\n\n./c.png\n")
    (tmp_path / "data.yaml").write_text(f"path: {tmp_path}\ntrain: val.txt\nval: val.txt\nnames: [cell]\n")
    assert [int(image[0, 0, 0]) for image in images(None, str(tmp_path / "data.yaml"), 4)] == [200, 10]


def test_images_of_other_channels_reach_the_model_as_they_are(tmp_path: Path) -> None:
    pages = [np.full((8, 6), 10 * page, np.uint8) for page in range(6)]
    cv2.imwritemulti(str(tmp_path / "0.tiff"), pages)
    found = list(images(tmp_path, None, 1, channels=6))
    (x,) = batches(found, (8, 6), 1, SimpleNamespace(yaml={"channels": 6}))
    assert x.shape == (1, 6, 8, 6)
    assert (x * 255).mean((0, 2, 3)).tolist() == pytest.approx([0, 10, 20, 30, 40, 50])
    with pytest.raises(DataError, match=r"0\.tiff has 6 channels and the model takes 4; name images like those"):
        list(images(tmp_path, None, 1, channels=4))


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(DataError, match=r"broken\.png is no image that can be read; fix or remove it"):
        list(images(tmp_path, None, 1))


def test_other_sizes_are_a_smaller_portrait_and_a_larger_landscape_one() -> None:
    assert other_sizes((640, 640), 32) == [(640, 640), (608, 320), (640, 704)]
    assert other_sizes((32, 32), 32) == [(32, 32), (32, 32), (32, 96)]
    assert other_sizes((640, 640), 32, lambda size: size[0] > 700) == [(640, 640), (704, 320), (640, 704)]


@pytest.mark.parametrize(("channels", "batch", "shapes"), [(3, 2, [(2, 3, 32, 64)] * 2), (1, 3, [(3, 1, 32, 64)])])
def test_batches_are_whole_and_as_wide_as_the_model(channels: int, batch: int, shapes: list[tuple[int, ...]]) -> None:
    found = [np.full((10, 10, 3), 255, np.uint8)] * 3
    made = list(batches(found, (32, 64), batch, SimpleNamespace(yaml={"channels": channels})))
    assert [tuple(x.shape) for x in made] == shapes
    assert all(float(x.max()) == 1.0 for x in made)
