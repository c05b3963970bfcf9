"""A validation fold for each seed: dealt alike everywhere, whole groups, nothing of the data set touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from attngraft._core.errors import DataError, PlanError
from attngraft.data import beacons
from attngraft.study.plan import Plan
from attngraft.study.running.folds import deal, fold_data, fold_of
from attngraft.study.study import Study
from attngraft.yolo.splits import split_images
from attngraft.yolo.step import network
from tests.study.conftest import TINY

NAMES = [f"img{number}.png" for number in range(23)]


def test_folds_are_of_nearly_equal_sizes_and_do_not_depend_on_the_order() -> None:
    dealt = deal(NAMES, 5)
    assert sorted(dealt.count(fold) for fold in range(5)) == [4, 4, 5, 5, 5]
    backwards = deal(NAMES[::-1], 5)
    assert dict(zip(NAMES, dealt, strict=True)) == dict(zip(NAMES[::-1], backwards, strict=True))


def test_a_group_lies_in_one_fold() -> None:
    names = [f"patient{number % 7}_{number}.png" for number in range(40)]
    dealt = deal(names, 3, r"(patient\d+)_")
    for patient in range(7):
        assert (
            len({fold for name, fold in zip(names, dealt, strict=True) if name.startswith(f"patient{patient}_")}) == 1
        )
    assert set(dealt) == {0, 1, 2}


def test_what_cannot_be_dealt_is_refused() -> None:
    with pytest.raises(DataError, match="4 folds need as many images or groups of images, got 3; lower folds"):
        deal(["a", "b", "c"], 4)
    with pytest.raises(DataError, match=r"the image b\.png has no group"):
        deal(["p1_a.png", "b.png"], 2, r"(p\d)_")
    with pytest.raises(PlanError, match="marks 0 groups, expected one"):
        Plan.of({**TINY, "data": "d.yaml", "arms": "eca@P3", "group": "patient"})


def test_every_image_is_validated_on_once(tmp_path: Path) -> None:
    data = beacons(tmp_path / "data", train=9, val=4)
    before = {path.name: path.read_bytes() for path in data.parent.rglob("*") if path.is_file()}
    plan = Plan.of({**TINY, "data": str(data), "arms": "eca@P3", "folds": 3, "first_seed": 5})
    assert [fold_of(plan, seed) for seed in (5, 6, 7, 8)] == [0, 1, 2, 0]
    seen: list[Path] = []
    for seed in (5, 6, 7):
        file = fold_data(plan, tmp_path / "study", seed)
        train, val = split_images(file, "train"), split_images(file, "val")
        assert len(train) + len(val) == 13
        assert not {path.resolve() for path in train} & {path.resolve() for path in val}
        seen += [path.resolve() for path in val]
        labels = [Path(str(path).replace("images", "labels")).with_suffix(".txt") for path in val]
        assert all(label.read_bytes() == _own_label(label).read_bytes() for label in labels)
        assert yaml.safe_load(Path(file).read_text())["names"] == {0: "red", 1: "green"}
    assert len(seen) == len(set(seen)) == 13
    assert {path.name: path.read_bytes() for path in data.parent.rglob("*") if path.is_file()} == before


def test_a_fold_keeps_what_the_data_file_says_of_the_data(tmp_path: Path) -> None:
    """Channels, keypoints and keys of the user's own; where the images lie is the fold's own matter."""
    data = beacons(tmp_path / "data", train=4, val=2)
    given = yaml.safe_load(data.read_text())
    own = {"channels": 1, "kpt_shape": [2, 3], "flip_idx": [1, 0], "site": "Lyon"}
    data.write_text(yaml.safe_dump({**given, **own, "test": "images/val", "download": "bash get.sh"}))
    plan = Plan.of({**TINY, "data": str(data), "arms": "eca@P3", "folds": 2})
    laid = yaml.safe_load(Path(fold_data(plan, tmp_path / "study", 0)).read_text())
    assert laid == {
        "train": "images/train", "val": "images/val", "names": {0: "red", 1: "green"}, "nc": 2, **own,
    }  # fmt: skip


def test_folds_of_gray_images_are_trained_on_one_channel(tmp_path: Path) -> None:
    data = beacons(tmp_path / "data", train=4, val=4)
    data.write_text(f"{data.read_text()}\nchannels: 1\n")
    keys = {**TINY, "data": str(data), "arms": "eca@P3", "controls": "stock", "seeds": 1, "folds": 2}
    study = Study(folder=tmp_path / "study", **keys)
    study.prepare()
    assert study.work(0)[1] == ""
    last = study.store.training(study.runs()[0]) / "weights" / "last.pt"
    assert next(network(last).parameters()).shape[1] == 1


def _own_label(link: Path) -> Path:
    image = next(link.parents[2].glob(f"images/*/{link.stem}.*")).resolve()
    return Path(str(image).replace("images", "labels")).with_suffix(".txt")


def test_a_study_trains_and_validates_on_the_folds(tmp_path: Path) -> None:
    data = beacons(tmp_path / "data", train=12, val=6)
    keys = {**TINY, "data": str(data), "arms": "eca@P3", "controls": "stock", "seeds": 2, "folds": 2}
    study = Study(folder=tmp_path / "study", **keys)
    assert study.run(parallel=1, anyway=True) == {}
    images = [{image["file_name"] for image in study.store.truth(fold)["images"]} for fold in (0, 1)]
    assert [len(names) for names in images] == [9, 9]
    assert not images[0] & images[1]
    truths = {record.seed: record.truth for record in study.records()}
    assert truths[0] != truths[1]
    assert all(record.watch["pictures"][1] == 9 for record in study.records())
    assert study.results.arm("eca@P3").estimate.seeds == 2
    page = study.report().with_name("report.md").read_text()
    assert "on one of 2 validation folds for each seed" in page
    assert "allow for the overlap of training sets" in page
    assert "The evaluation split is the same" not in page
    assert "a study with folds" not in page
