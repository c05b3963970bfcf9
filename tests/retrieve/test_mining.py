"""Mining: what a detector missed is found again in unlabelled images, and nothing of the user's is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from attngraft import data
from attngraft._core.errors import DataError, MapError, OptionError
from attngraft._core.progress import Lines
from attngraft.retrieve.contact import sheet_titles
from attngraft.retrieve.images import ImageEncoder
from attngraft.retrieve.items import Item
from attngraft.retrieve.mining import Mined, Mining, mine
from attngraft.retrieve.misses import read_misses, undetected
from attngraft.retrieve.parts import box_of
from attngraft.yolo import YOLO

RECIPE = "attngraft-micro.yaml+mhsa(init=paper)@P3"


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return ImageEncoder(YOLO(RECIPE), imgsz=96)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve grey images, of which number 3, 7 and 11 have a bright square on stripes, and so has ``miss.png``."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in (*range(12), 99):
        pixels = rng.integers(90, 110, (96, 96, 3))
        if number % 4 == 3:
            pixels = pixels + np.where(np.arange(96) // 4 % 2, 60, -60)[:, None]
            pixels[30:60, 30:60] = (250, 250, 40)
        name = "miss.png" if number == 99 else f"{number:02d}.png"
        cv2.imwrite(str(folder / name), pixels.clip(0, 255).astype(np.uint8))
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class TestMine:
    @pytest.mark.parametrize("parts", ["crops", "objects"])
    @pytest.mark.parametrize("diverse", [True, False])
    def test_images_like_a_miss_come_first(
        self, encoder: ImageEncoder, images: Path, tmp_path: Path, parts: str, diverse: bool
    ) -> None:
        (tmp_path / "failures.txt").write_text(f"{images / 'miss.png'} 30 30 60 60\n")
        found = mine(encoder, images, tmp_path / "failures.txt", n=3, parts=parts, diverse=diverse)
        names = {image.path.name for image in found.images}
        assert names == {"03.png", "07.png", "11.png"} or (parts == "crops" and "miss.png" not in names)
        assert found.searched == 12
        for image in found.images:
            assert image.miss == 0
            assert image.votes == pytest.approx(sum(w.votes for w in image.why), rel=0.2)
            assert all(0 <= why.head < 4 and why.rank < 12 and -1 <= why.similarity <= 1.0001 for why in image.why)

    def test_a_broken_image_is_named_and_left_out(self, encoder: ImageEncoder, images: Path, tmp_path: Path) -> None:
        (tmp_path / "failures.txt").write_text(f"{images / 'miss.png'} 30 30 60 60\n")
        some = shutil.copytree(images, tmp_path / "images")
        (some / "miss.png").unlink()
        (some / "half.png").write_bytes((images / "00.png").read_bytes()[:40])
        said: list[str] = []
        found = mine(encoder, some, tmp_path / "failures.txt", n=20, progress=Lines(said.append))
        assert (found.searched, len(found.images)) == (12, 12)
        assert [line for line in said if "half.png is not an image that can be read" in line] == said

    def test_misses_take_turns(self, encoder: ImageEncoder, images: Path) -> None:
        plain = [Item(f"plain{n}", path=images / f"{n:02d}.png") for n in (0, 1, 2)]
        striped = Item("striped", path=images / "03.png")
        found = mine(encoder, images, [*plain, striped], n=4, diverse=True)
        assert {"07.png", "11.png", "miss.png"} & {image.path.name for image in found.images[:4]}
        assert not {image.path.name for image in found.images} & {"00.png", "01.png", "02.png", "03.png"}

    def test_twins_come_last(self, encoder: ImageEncoder, images: Path, tmp_path: Path) -> None:
        for number in range(4):
            (tmp_path / f"copy{number}.png").write_bytes((images / "07.png").read_bytes())
        (tmp_path / "other.png").write_bytes((images / "05.png").read_bytes())
        miss = [Item("miss", path=images / "miss.png")]
        order = [image.path.name for image in mine(encoder, tmp_path, miss, n=5, diverse=True).images]
        assert order[1] == "other.png"
        order = [image.path.name for image in mine(encoder, tmp_path, miss, n=5, diverse=False).images]
        assert order[-1] == "other.png"

    def test_a_name_in_another_encoding_is_kept_where_programs_read_it(
        self, encoder: ImageEncoder, images: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "source").mkdir()
        named = Path(os.fsdecode(os.fsencode(tmp_path / "source") + b"/" + "测试".encode("gbk") + b".png"))
        named.write_bytes((images / "07.png").read_bytes())
        folder = mine(encoder, tmp_path / "source", [Item("miss", path=images / "miss.png")]).save(tmp_path / "out")
        assert (folder / "images.txt").read_bytes() == os.fsencode(named) + b"\n"
        assert Path(json.loads((folder / "mined.json").read_text())["images"][0]["path"]).is_file()
        assert "\N{REPLACEMENT CHARACTER}" in (folder / "index.html").read_text(encoding="utf-8")

    def test_what_is_written_names_images_votes_and_reasons(
        self, encoder: ImageEncoder, images: Path, tmp_path: Path
    ) -> None:
        misses = [Item("miss", path=images / "miss.png", fields={"label": "<b>&"})]
        found = mine(encoder, images, misses, n=5)
        before = snapshot(images)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("years of work")
        folder = found.save(tmp_path / "out")
        assert folder == tmp_path / "out-2"
        assert snapshot(images) == before
        assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"
        listed = (folder / "images.txt").read_text().splitlines()
        assert listed == [str(image.path.resolve()) for image in found.images]
        content = json.loads((folder / "mined.json").read_text())
        assert [one["path"] for one in content["images"]] == listed
        assert content["images"][0]["why"][0].keys() == {"miss", "head", "rank", "similarity", "votes"}
        with Image.open(folder / "sheet.png") as sheet:
            assert sheet.size[0] > 1000
        page = (folder / "index.html").read_text()
        assert page.count("<img") == 6
        assert not re.search(r"(src|href)=\"(?!data:image/jpeg;base64,|#miss\d)", page)  # it fetches nothing
        assert "1 miss: 1 of &lt;b&gt;&amp;." in page
        assert "<b>&" not in page

    @pytest.mark.parametrize(
        ("misses", "found_by", "images", "titles"),
        [
            (3, 3, 5, ("3 misses", "5 of 200 images like them")),
            (1, 1, 97, ("1 miss", "97 of 200 images like them (shown: the first 96)")),
            (3, 1, 5, ("3 misses (shown: 1 that images were found by)", "5 of 200 images like them")),
            (55, 11, 12, ("55 misses (shown: 11 that images were found by)", "12 of 200 images like them")),
            (55, 29, 40, ("55 misses (shown: the first 16 that images were found by)", "40 of 200 images like them")),
        ],
    )
    def test_the_sheet_says_how_much_of_it_there_is(
        self, misses: int, found_by: int, images: int, titles: tuple[str, str]
    ) -> None:
        found = [Mined(str(at), Path("a.png"), 1.0, at % found_by, ()) for at in range(images)]
        assert sheet_titles(Mining(found, [Item("m")] * misses, 200, {}), found_by) == titles

    def test_the_page_shows_what_images_were_found_by_behind_them(
        self, encoder: ImageEncoder, images: Path, tmp_path: Path
    ) -> None:
        """A detector misses thousands of objects; the page is of those that images rest on, and links lead there."""
        misses = [Item(f"miss{at}", path=images / "miss.png", fields={"label": "cat"}) for at in range(40)]
        found = mine(encoder, images, misses, n=2)
        rest_on = {why.miss + 1 for image in found.images for why in image.why}
        page = (found.save(tmp_path / "out") / "index.html").read_text()
        shown = [int(at) for at in re.findall(r'<figure id="miss(\d+)"', page)]
        assert shown == sorted(rest_on) != list(range(1, 41))
        assert {int(at) for at in re.findall(r'href="#miss(\d+)"', page)} == rest_on
        assert page.index("#miss") < page.index("What was missed") < page.index('id="miss')
        assert "40 misses: 40 of cat." in page


class TestMisses:
    def test_matching_is_that_of_coco(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(30):
            count, found = rng.integers(1, 8), rng.integers(0, 10)
            boxes = [(*corner, *(corner + rng.uniform(5, 25, 2))) for corner in rng.uniform(0, 30, (count, 2))]
            labels = rng.integers(0, 2, count).tolist()
            chosen = rng.integers(0, count, found)
            scores = rng.permutation(found) / 10 + 0.05
            detections = [
                (tuple(np.array(boxes[at]) + rng.normal(0, 2.5, 4)), labels[at], float(score))
                for at, score in zip(chosen, scores, strict=True)
            ]
            assert undetected(boxes, labels, detections) == coco_misses(boxes, labels, detections)

    def test_a_grayscale_model_mines(self, gray_model: Path, images: Path, tmp_path: Path) -> None:
        (tmp_path / "failures.txt").write_text(f"{images / 'miss.png'} 30 30 60 60\n")
        found = mine(ImageEncoder(gray_model, imgsz=64), images, tmp_path / "failures.txt", n=3, parts="crops")
        assert len(found.images) == 3

    def test_a_data_set_of_roboflow_is_detected_on(self, tmp_path: Path) -> None:
        """Its data.yaml says ``../valid/images`` for a folder that lies beside it."""
        file = data.factors(tmp_path / "set", train=1, val=2)
        for split, folder in (("train", "train"), ("val", "valid")):
            for kind in ("images", "labels"):
                (tmp_path / "robo" / folder).mkdir(parents=True, exist_ok=True)
                (file.parent / kind / split).rename(tmp_path / "robo" / folder / kind)
        robo = tmp_path / "robo/data.yaml"
        robo.write_text("train: ../train/images\nval: ../valid/images\nnames: [circle, square, triangle, plus]\n")
        model = YOLO(RECIPE)
        model.model.names = dict(enumerate(("circle", "square", "triangle", "plus")))
        misses = read_misses(robo, ImageEncoder(model, imgsz=96, confidence=0.999))
        assert {path.parent for miss in misses if (path := miss.path)} == {tmp_path / "robo/valid/images"}

    def test_a_data_set_is_detected_on(self, tmp_path: Path) -> None:
        """A detector that finds nothing misses all objects; one that is sure of everything holds some."""
        file = data.factors(tmp_path / "set", train=1, val=4)
        model = YOLO(RECIPE)
        model.model.names = dict(enumerate(("circle", "square", "triangle", "plus")))
        encoder = ImageEncoder(model, imgsz=96, confidence=0.999)
        misses = read_misses(file, encoder)
        labels = sorted((tmp_path / "set/labels/val").glob("*.txt"))
        lines = [line.split() for label in labels for line in label.read_text().splitlines()]
        assert len(misses) == len(lines)
        names = ("circle", "square", "triangle", "plus")
        assert [miss.fields["label"] for miss in misses] == [names[int(line[0])] for line in lines]
        first = np.array(lines[0][1:], float) * 96
        box = np.array(box_of(misses[0]))
        np.testing.assert_allclose([*(box[:2] + box[2:]) / 2, *(box[2:] - box[:2])], first, atol=1e-3)
        model.model.names = {0: "cat"}
        other = ImageEncoder(model, imgsz=96)
        with pytest.raises(OptionError, match="classes of .* are circle, square, triangle, plus, and the model's are"):
            read_misses(file, other)

    def test_a_list_has_paths_with_blanks_and_boxes_or_none(self, images: Path, tmp_path: Path) -> None:
        (tmp_path / "a b.png").write_bytes((images / "00.png").read_bytes())
        (tmp_path / "1 2 3 4.png").write_bytes((images / "00.png").read_bytes())
        file = tmp_path / "failures.txt"
        file.write_text(f"\ufeffa b.png 1 2 30.5 40\n\n1 2 3 4.png\n{images / '01.png'}\n", encoding="utf-8")
        found = read_misses(file, None)  # type: ignore[arg-type]
        assert [(miss.path and miss.path.name, box_of(miss)) for miss in found] == [
            ("a b.png", (1, 2, 30.5, 40)), ("1 2 3 4.png", None), ("01.png", None)]  # fmt: skip

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("gone.png\n", "line 1: there is no image gone.png; write a path, and behind it left, top"),
            ("", "has no miss to look for"),
        ],
    )
    def test_a_list_that_makes_no_sense(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "failures.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            read_misses(tmp_path / "failures.txt", None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 0}, OptionError, "n"),
        ({"parts": "tiles"}, OptionError, "'crops', 'objects'|crops"),
        ({"source": ["only"]}, DataError, "no image besides those of the misses"),
        ({"model": "yolov8n.yaml"}, MapError, "has no attention with heads"),
    ],
)
def test_what_cannot_be_mined(
    encoder: ImageEncoder, images: Path, options: dict[str, Any], error: Any, message: str
) -> None:
    miss = Item("miss", path=images / "miss.png")
    model = YOLO(options.pop("model")) if "model" in options else encoder
    source: Any = [miss] if options.pop("source", None) else images
    with pytest.raises(error, match=message):
        mine(model, source, [miss], **options)


def coco_misses(boxes: Any, labels: Any, detections: Any) -> list[int]:
    """Return what pycocotools says that no detection holds at an overlap of 0.5."""

    def wide(box: Any) -> list[float]:
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    truth = COCO()
    truth.dataset = {
        "images": [{"id": 1, "width": 99, "height": 99}],
        "categories": [{"id": 1}, {"id": 2}],
        "annotations": [
            {"id": at + 1, "image_id": 1, "category_id": label + 1, "bbox": wide(box), "iscrowd": 0,
             "area": float(np.prod(wide(box)[2:]))}
            for at, (box, label) in enumerate(zip(boxes, labels, strict=True))
        ],
    }  # fmt: skip
    truth.createIndex()
    if not detections:
        return list(range(len(boxes)))
    found = truth.loadRes([
        {"image_id": 1, "category_id": label + 1, "bbox": wide(box), "score": score} for box, label, score in detections
    ])  # fmt: skip
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e9]], ["all"]
    evaluation.evaluate()
    held = {int(at) for one in evaluation.evalImgs if one for at in one["dtMatches"][0] if at}
    return [at for at in range(len(boxes)) if at + 1 not in held]
