"""The data set on disk: the layout, the same bytes every time, and no folder of the user's harmed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft.data import PROBES, beacons, factors, probe_data
from attngraft.data.scenes import beacon_scene, generator


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def fingerprint(folder: Path) -> str:
    return hashlib.sha256(repr(files(folder)).encode()).hexdigest()


def test_layout_and_yaml(tmp_path: Path) -> None:
    path = beacons(tmp_path / "set", train=3, val=2)
    assert path == tmp_path / "set" / "data.yaml"
    assert yaml.safe_load(path.read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "names": {0: "red", 1: "green"},
    }
    names = set(files(tmp_path / "set")) - {"data.yaml", "beacons.json"}
    stems = ["train/00000", "train/00001", "train/00002", "val/00000", "val/00001"]
    assert names == {f"images/{stem}.png" for stem in stems} | {f"labels/{stem}.txt" for stem in stems}


def test_a_picture_is_its_scene_and_its_labels_are_in_range(tmp_path: Path) -> None:
    beacons(tmp_path, train=40, val=1, seed=7)
    for index in range(40):
        scene = beacon_scene(generator(7, 0, index), 96)
        found = cv2.imread(str(tmp_path / f"images/train/{index:05d}.png"))
        np.testing.assert_array_equal(found[..., ::-1], scene.image)
        rows = np.loadtxt(tmp_path / f"labels/train/{index:05d}.txt", ndmin=2)
        assert set(rows[:, 0]) <= {0, 1}
        corners = np.hstack([rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2])
        assert corners.min() > 0
        assert corners.max() < 1
        np.testing.assert_allclose(corners * 96, [thing.area for thing in scene.things], atol=1e-3)


@pytest.mark.parametrize(("far", "near"), [("global", "local"), ("legend", "legend_local")])
def test_a_rule_and_its_control_differ_in_classes_only(tmp_path: Path, far: str, near: str) -> None:
    sets = {}
    for rule in (far, near):
        beacons(tmp_path / rule, rule=rule, train=30, val=5)  # type: ignore[arg-type]
        sets[rule] = files(tmp_path / rule)
    assert sets[far].keys() == sets[near].keys()
    for name in sets[far]:
        if name.startswith("images"):
            assert sets[far][name] == sets[near][name]
        elif name.startswith("labels"):
            boxes = [[line.split()[1:] for line in s[name].splitlines()] for s in sets.values()]
            assert boxes[0] == boxes[1]
    labels = {rule: [c.split()[0] for n, c in s.items() if n.startswith("labels/train")] for rule, s in sets.items()}
    agree = sum(one == other for one, other in zip(labels[far], labels[near], strict=True))
    assert 5 <= agree <= 25


def test_the_same_bytes_in_this_process_and_a_fresh_one(tmp_path: Path) -> None:
    beacons(tmp_path / "a", train=6, val=3, seed=11)
    beacons(tmp_path / "b", train=6, val=3, seed=11)
    call = f"from attngraft.data import beacons; beacons({str(tmp_path / 'c')!r}, train=6, val=3, seed=11)"
    subprocess.run(
        [sys.executable, "-c", call], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b") == fingerprint(tmp_path / "c")
    beacons(tmp_path / "d", train=6, val=3, seed=12)
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "d")


def test_more_pictures_begin_with_the_same_ones(tmp_path: Path) -> None:
    beacons(tmp_path / "few", train=2, val=1)
    beacons(tmp_path / "more", train=4, val=3)
    few, more = files(tmp_path / "few"), files(tmp_path / "more")
    assert all(more[name] == content for name, content in few.items() if name != "beacons.json")


def test_factors_say_what_each_image_shows_and_one_of_them_names_the_classes(tmp_path: Path) -> None:
    sets = {}
    for rule in ("shape", "colour"):
        path = factors(tmp_path / rule, rule=rule, train=12, val=3)  # type: ignore[arg-type]
        sets[rule] = files(tmp_path / rule)
        names = yaml.safe_load(path.read_text())["names"]
        rows = [json.loads(line) for line in path.with_name("factors.jsonl").read_text().splitlines()]
        assert [row["image"] for row in rows] == [*(f"images/train/{i:05d}.png" for i in range(12)),
                                                  *(f"images/val/{i:05d}.png" for i in range(3))]  # fmt: skip
        for row in rows:
            label = tmp_path / rule / row["image"].replace("images", "labels").replace(".png", ".txt")
            classes = [names[int(line.split()[0])] for line in label.read_text().splitlines()]
            assert classes == [row[rule]] * (1 + ["one", "two", "three"].index(row["count"]))
    same = [name for name in sets["shape"] if name.startswith("images") or name == "factors.jsonl"]
    assert len(same) == 16
    assert all(sets["shape"][name] == sets["colour"][name] for name in same)


def test_factors_are_the_same_bytes_in_a_fresh_process(tmp_path: Path) -> None:
    factors(tmp_path / "a", train=4, val=2, seed=3)
    call = f"from attngraft.data import factors; factors({str(tmp_path / 'b')!r}, train=4, val=2, seed=3)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", call], check=True, env=env)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    (tmp_path / "a" / "factors.jsonl").unlink()
    factors(tmp_path / "a", train=4, val=2, seed=3)
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


def test_factors_refuse_what_beacons_refuse(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"factors needs rule to be one of 'colour', 'shape', .*, got 'size'"):
        factors(tmp_path, rule="size")  # type: ignore[arg-type]
    beacons(tmp_path, train=1, val=1)
    with pytest.raises(DataError, match="is not empty and holds no factors set"):
        factors(tmp_path, train=1, val=1)


def test_needs_no_torch_and_no_host() -> None:
    code = "import sys, attngraft.data, attngraft.drawing; print({'torch', 'ultralytics'} & set(sys.modules))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code], check=True, env=env, capture_output=True, text=True)
    assert run.stdout == "set()\n"


class TestFolder:
    def test_the_same_set_is_used_as_it_is(self, tmp_path: Path) -> None:
        path = beacons(tmp_path, train=2, val=1)
        before = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
        assert beacons(tmp_path, train=2, val=1) == path
        assert {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)} == before

    def test_a_set_that_was_cut_short_is_completed(self, tmp_path: Path) -> None:
        path = beacons(tmp_path, train=3, val=1)
        whole = files(tmp_path)
        path.unlink()
        (tmp_path / "images/train/00001.png").unlink()
        beacons(tmp_path, train=3, val=1)
        assert files(tmp_path) == whole

    def test_another_set_is_refused(self, tmp_path: Path) -> None:
        beacons(tmp_path, train=2, val=1)
        before = files(tmp_path)
        with pytest.raises(
            DataError, match=r"holds a beacons set with train=2, not 3, seed=0, not 1; give another folder"
        ):
            beacons(tmp_path, train=3, val=1, seed=1)
        with pytest.raises(DataError, match=r"rule='global', not 'local'"):
            beacons(tmp_path, rule="local", train=2, val=1)
        assert files(tmp_path) == before

    @pytest.mark.parametrize("mark", [None, "{", "[]"], ids=["none", "torn", "list"])
    def test_a_users_folder_is_refused(self, tmp_path: Path, mark: str | None) -> None:
        (tmp_path / "thesis.txt").write_text("years of work")
        if mark is not None:
            (tmp_path / "beacons.json").write_text(mark)
        before = files(tmp_path)
        with pytest.raises(DataError, match=r"is not empty and holds no beacons set; give an empty or a new folder"):
            beacons(tmp_path, train=2, val=1)
        assert files(tmp_path) == before

    def test_a_foreign_mark_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "beacons.json").write_text(json.dumps({"generator": "lighthouse"}))
        with pytest.raises(DataError, match=r"generator='lighthouse'"):
            beacons(tmp_path, train=2, val=1)

    def test_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for folder in (tmp_path / "file", tmp_path / "file" / "below"):
            with pytest.raises(OutputError, match=rf"^cannot write the beacons set to {folder}: Not a directory$"):
                beacons(folder, train=2, val=1)

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
    def test_an_unwritable_folder_is_one_clear_sentence(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match=r"^cannot write the beacons set to .*: Permission denied$"):
            beacons(tmp_path / "set", train=2, val=1)

    def test_a_full_disk_is_one_clear_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(path: Path, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match=r"^cannot write the beacons set to .*: No space left on device$"):
            beacons(tmp_path / "set", train=2, val=1)

    def test_a_relative_folder_and_an_empty_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert beacons(".", train=1, val=1) == tmp_path / "data.yaml"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "globl"}, r"rule to be one of 'global', 'local', 'legend', 'legend_local', got 'globl'"),
        ({"train": 0}, r"train to be a positive integer for rule='global', got 0"),
        ({"val": 2.5}, r"val to be a positive integer for rule='global', got 2.5"),
        ({"seed": -1}, r"seed to be an integer of 0 or more for rule='global', got -1"),
        ({"side": 64}, r"side to be an integer of 96 or more for rule='global', got 64"),
        ({"side": 96, "rule": "legend"}, r"side to be an integer of 128 or more for rule='legend', got 96"),
        ({"side": 100}, r"side to be a multiple of 32, got 100; use 96 or 128"),
        ({"train": True}, r"train to be a positive integer for rule='global', got True"),
    ],
)
def test_options_that_cannot_work(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        beacons(tmp_path / "set", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("name", sorted(PROBES))
def test_a_probe_and_its_control_differ_in_classes_only(tmp_path: Path, name: str) -> None:
    sets = {}
    for rule in (name, f"{name}_control"):
        path = probe_data(tmp_path / rule, rule=rule, train=12, val=2, seed=3)
        found = files(path.parent)
        sets[rule] = (
            {key: value for key, value in found.items() if key.endswith(".png")},
            {
                key: [line.split()[1:] for line in value.decode().splitlines()]
                for key, value in found.items()
                if key.endswith(".txt")
            },
        )
        probe = PROBES[name]
        names = probe.control_classes if rule.endswith("control") else probe.classes
        assert yaml.safe_load(path.read_text())["names"] == dict(enumerate(names))
    assert sets[name] == sets[f"{name}_control"]
    assert len(sets[name][0]) == 14
    labels = [(tmp_path / rule / "labels/train").glob("*.txt") for rule in sets]
    classes = [[file.read_text()[0] for file in sorted(part)] for part in labels]
    scenes = [PROBES[name].draw(generator(3, 0, index)) for index in range(12)]
    assert classes == [[str(s.things[0].far) for s in scenes], [str(s.things[0].near) for s in scenes]]


def test_an_unknown_rule_of_a_probe_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="probe_data needs rule to be one of 'global', 'global_control', .*'twin'"):
        probe_data(tmp_path, rule="twin")
