"""Writing files whole or not at all: links, modes, names, full disks and strangers' links are all met for real."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from attngraft._core.errors import OutputError
from attngraft._core.files import free_path, link_or_copy, require_writable, write_bytes, write_text, write_whole


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.fixture
def umask_027() -> object:
    before = os.umask(0o027)
    yield
    os.umask(before)


class TestModeAndLinks:
    @pytest.mark.usefixtures("umask_027")
    def test_a_new_file_has_the_mode_that_the_umask_leaves(self, tmp_path: Path) -> None:
        write_text(tmp_path / "new.txt", "x")
        assert mode(tmp_path / "new.txt") == 0o640

    @pytest.mark.usefixtures("umask_027")
    def test_a_writer_that_makes_a_private_file_leaves_the_mode(self, tmp_path: Path) -> None:
        def write(partial: Path) -> None:
            own = tmp_path / "own"
            own.touch(0o600)
            own.replace(partial)

        write_whole(tmp_path / "new.bin", write)
        assert mode(tmp_path / "new.bin") == 0o640

    def test_a_replaced_file_keeps_its_mode(self, tmp_path: Path) -> None:
        file = tmp_path / "old.txt"
        file.write_text("old")
        file.chmod(0o604)
        write_text(file, "new")
        assert (mode(file), file.read_text()) == (0o604, "new")

    @pytest.mark.parametrize("exists", [True, False], ids=["to a file", "dangling"])
    def test_a_link_stays_one(self, tmp_path: Path, exists: bool) -> None:
        target, link = tmp_path / "store" / "real.pt", tmp_path / "best.pt"
        target.parent.mkdir()
        if exists:
            target.write_bytes(b"old")
        link.symlink_to(target)
        write_bytes(link, b"new")
        assert link.is_symlink()
        assert target.read_bytes() == b"new"

    def test_a_device_is_written_to(self) -> None:
        write_text(Path("/dev/null"), "x")
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

    def test_a_link_laid_where_the_partial_file_was_once_to_be_found_is_not_followed(self, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        victim.write_text("mine")
        (tmp_path / f".{os.getpid()}.out.txt").symlink_to(victim)
        write_text(tmp_path / "out.txt", "x")
        assert victim.read_text() == "mine"

    def test_partial_names_cannot_be_foretold_and_end_alike(self, tmp_path: Path) -> None:
        seen: list[Path] = []
        for _ in range(2):
            write_whole(tmp_path / "a.onnx", lambda partial: (seen.append(partial), partial.write_text("x")))
        assert seen[0] != seen[1]
        assert {file.suffix for file in seen} == {".onnx"}
        assert {file.parent for file in seen} == {tmp_path}


@pytest.mark.parametrize(
    "name", ["a b", "it's", 'say "x"', "a#b%c", "图像", "صورة", "line\nbreak", "-rf", "x" * 240, "$(id)", "a;b"]
)
def test_any_name_that_the_file_system_takes(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / f"{name}.txt"
    write_text(file, name)
    assert file.read_text(encoding="utf-8") == name
    assert [path.name for path in file.parent.iterdir()] == [file.name]


class TestFailures:
    def test_what_stood_there_stays_when_writing_fails(self, tmp_path: Path) -> None:
        file = tmp_path / "a.txt"
        file.write_text("old")

        def fail(partial: Path) -> None:
            partial.write_text("half")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_whole(file, fail)
        assert file.read_text() == "old"
        assert list(tmp_path.iterdir()) == [file]

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="is a folder; name a file"):
            write_text(tmp_path, "x")

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(OutputError, match=r"cannot write .*file/a\.txt \(.+\); choose another folder"):
            write_text(tmp_path / "file" / "a.txt", "x")

    def test_another_error_stays_what_it_is(self, tmp_path: Path) -> None:
        def fail(_: Path) -> None:
            raise RuntimeError("no writer's")

        with pytest.raises(RuntimeError, match="no writer's"):
            write_whole(tmp_path / "a.txt", fail)

    @pytest.mark.parametrize(
        "write", ["partial.write_bytes(bytes(200_000))", "torch.save(torch.zeros(50_000), partial)"]
    )
    def test_a_limit_is_named_and_the_same_call_completes_with_room(self, tmp_path: Path, write: str) -> None:
        code = f"""
            import resource, sys, torch
            from pathlib import Path
            from attngraft._core.files import write_whole
            if sys.argv[2] == "little":
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            try:
                write_whole(Path(sys.argv[1]), lambda partial: {write})
            except OSError as error:
                print(type(error).__name__, error)
        """
        file = tmp_path / "out.pt"

        def run(room: str) -> str:
            command = [sys.executable, "-c", textwrap.dedent(code), str(file), room]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        assert "OutputError" in (said := run("little"))
        assert f"{file} is not written: " in said
        assert "limit" in said
        assert "run the same command again" in said
        assert list(tmp_path.iterdir()) == []
        assert run("much") == ""
        assert file.stat().st_size >= 200_000


def test_a_file_is_copied_where_links_need_a_privilege(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "last.pt"
    source.write_bytes(b"weights")
    link_or_copy(source, tmp_path / "link.pt")
    assert (tmp_path / "link.pt").is_symlink()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "A required privilege is not held by the client")  # Windows' error 1314

    monkeypatch.setattr(os, "symlink", refuse)
    link_or_copy(source, tmp_path / "copy.pt")
    assert not (tmp_path / "copy.pt").is_symlink()
    assert (tmp_path / "copy.pt").read_bytes() == b"weights"


def test_a_free_path_is_the_first(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").mkdir()
    assert free_path(tmp_path / "run") == tmp_path / "run-3"


def test_what_cannot_be_made_is_known_before(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*file.page.html in .*file; choose another folder"):
        require_writable(tmp_path / "file" / "page.html")
    if os.name == "posix" and os.geteuid():
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="cannot write"):
            require_writable(tmp_path / "page.html")
