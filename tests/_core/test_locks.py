"""One process at a time fills a folder."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from attngraft._core.errors import OutputError, PlanError
from attngraft._core.locks import alone, held

BUSY = PlanError("another process is at it")


def never() -> bool:
    return False


def test_a_second_is_refused_and_work_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "study"
    with alone(folder, BUSY, used=never), pytest.raises(PlanError, match="at it"), alone(folder, BUSY, used=never):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_held_file_is_waited_for_and_then_said(tmp_path: Path) -> None:
    for _ in range(2):
        with (
            held(tmp_path / "run.lock", BUSY),
            pytest.raises(PlanError, match="at it"),
            held(tmp_path / "run.lock", BUSY, wait=0.05),
        ):
            pass


def test_a_lock_that_nobody_is_refused_is_waited_for(tmp_path: Path) -> None:
    entered = threading.Event()

    def second() -> None:
        with held(tmp_path / "index.lock"):
            entered.set()

    waiting = threading.Thread(target=second)
    with held(tmp_path / "index.lock"):
        waiting.start()
        assert not entered.wait(0.2)
    waiting.join()
    assert entered.is_set()


def test_what_the_user_put_there_stays(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with alone(folder / "study", BUSY, used=never):
        (folder / "mine.txt").touch()
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_used_work_keeps_its_file_and_frees_the_folder(tmp_path: Path) -> None:
    for _ in range(2):
        with alone(tmp_path / "study", BUSY, used=lambda: True):
            pass
    assert [path.name for path in (tmp_path / "study").iterdir()] == [".lock"]


def test_a_refusal_takes_no_lock_from_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process enters at the moment in which the first, which leaves nothing, lets go."""
    folder = tmp_path / "study"
    release, entered = FileLock.release, ExitStack()

    def let_go(self: FileLock, **options: Any) -> None:
        release(self, **options)
        monkeypatch.undo()
        entered.enter_context(alone(folder, BUSY, used=never))

    with alone(folder, BUSY, used=never):
        monkeypatch.setattr(FileLock, "release", let_go)
    with entered, pytest.raises(PlanError, match="at it"), alone(folder, BUSY, used=never):
        pass
    assert not (folder / ".lock").exists()


def test_a_folder_that_cannot_be_written_is_named_as_the_user_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"^cannot write ~/file/in \(.*\); choose another folder$"),
        alone(tmp_path / "file" / "in", BUSY, used=never, named=Path("~/file/in")),
    ):
        pass
