"""Exports that meet another, a full disk or what stands in their place; nothing broken has a final name."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import attngraft
from attngraft._core.errors import OutputError
from attngraft.yolo import export
from attngraft.yolo.workshop import take_place, target_of, workshop

MICRO = "attngraft-micro.yaml"


def test_of_two_exports_to_one_target_one_wins_and_the_other_says_so() -> None:
    network = attngraft.YOLO(MICRO).model
    with workshop(network, target_of(network), "torchscript"):
        with pytest.raises(OutputError, match="another process is exporting attngraft-micro to torch.*output="):
            export(MICRO, imgsz=64, images=1)
        assert export(MICRO, imgsz=64, images=1, output="elsewhere").file.is_file()
    assert export(MICRO, imgsz=64, images=1).file == Path.cwd() / "attngraft-micro.torchscript"
    assert not list(Path.cwd().glob(".attngraft-*"))


def test_processes_that_export_at_once_leave_a_whole_file() -> None:
    code = f"from attngraft.yolo import export; export({MICRO!r}, imgsz=64, images=1)"
    ran = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate()[1] for process in ran]
    codes = sorted(process.returncode for process in ran)
    assert codes[0] == 0, errors
    assert codes[1] == 0 or any("another process is exporting attngraft-micro" in text for text in errors)
    assert torch.jit.load("attngraft-micro.torchscript")
    assert {file.name for file in Path.cwd().iterdir()} - {"cache"} == {
        "attngraft-micro.torchscript", "attngraft-micro.torchscript.parity.json",
    }  # fmt: skip


def test_a_failed_export_leaves_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("attngraft-micro.torchscript").write_text("an older export")
    opened = attngraft.YOLO(MICRO)
    opened.add_callback("on_export_end", lambda exporter: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(opened, imgsz=64, images=1)
    assert Path("attngraft-micro.torchscript").read_text() == "an older export"
    assert not list(Path.cwd().glob(".attngraft-*"))
    assert target_of(opened.model) == Path.cwd() / MICRO, "the model is as it was"


@pytest.mark.skipif(sys.platform == "win32", reason="limits are of POSIX")
def test_a_file_that_may_not_grow_is_said_and_leaves_nothing() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        f"from attngraft.cli import main; main(['export', 'model={MICRO}', 'imgsz=64', 'images=1'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "attngraft-micro is not exported to" in ran.stderr, ran.stderr
    assert "files may have 0.1 MB (ulimit -f); free some space" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert {file.name for file in Path.cwd().iterdir()} <= {"cache"}


def test_a_disk_that_fills_up_on_the_way_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(exporter: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    opened = attngraft.YOLO(MICRO)
    opened.add_callback("on_export_end", full)
    with pytest.raises(OutputError, match="attngraft-micro is not exported to .*: the disk is full; free some space"):
        export(opened, imgsz=64, images=1)
    assert {file.name for file in Path.cwd().iterdir()} <= {"cache"}


def test_a_folder_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)  # a test may run as root, who may write anywhere
    with pytest.raises(OutputError, match="cannot write in .*; name another place with output=FOLDER"):
        export(MICRO, imgsz=64, images=1)


class TestPlace:
    @pytest.fixture
    def made(self, tmp_path: Path) -> Path:
        (tmp_path / "workshop").mkdir()
        return tmp_path / "workshop" / "made"

    def test_a_file_is_replaced_and_a_link_stays_a_link(self, made: Path, tmp_path: Path) -> None:
        made.write_text("new")
        (tmp_path / "real").write_text("old")
        os.symlink(tmp_path / "real", tmp_path / "link")
        take_place(made, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real").read_text() == "new"

    def test_a_folder_is_replaced_whole(self, made: Path, tmp_path: Path) -> None:
        made.mkdir()
        (made / "new.xml").touch()
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "old.xml").touch()
        take_place(made, tmp_path / "model")
        assert [file.name for file in (tmp_path / "model").iterdir()] == ["new.xml"]

    def test_what_cannot_be_placed_leaves_what_was_there(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "old.xml").touch()
        with pytest.raises(FileNotFoundError):
            take_place(made, tmp_path / "model")  # nothing was made
        assert [file.name for file in (tmp_path / "model").iterdir()] == ["old.xml"]
