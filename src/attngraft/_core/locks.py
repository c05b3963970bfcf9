"""One process at a time holds a lock file, or fills a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from attngraft._core.errors import AttngraftError, OutputError
from attngraft._core.files import CHOOSE

LOCK = ".lock"


@contextmanager
def held(file: Path, busy: AttngraftError | None = None, *, wait: float = 0, advice: str = CHOOSE) -> Iterator[None]:
    """Hold a lock file, which stays.

    Args:
        file: The lock file; its folder is made.
        busy: Raised where another process holds it; None waits for as long as it does.
        wait: Seconds to wait before that is raised.
        advice: What to do where the folder cannot be written.

    Raises:
        AttngraftError: `busy`.
        OutputError: If the folder cannot be written.
    """
    lock = _acquired(file, busy, wait, file.parent, advice)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone(folder: Path, busy: AttngraftError, *, used: Callable[[], bool], named: Path | None = None) -> Iterator[None]:
    """Keep a second process out of a folder; work that is refused leaves nothing behind.

    Args:
        folder: What is filled; it is made, with its parents.
        busy: Raised where another process fills it.
        used: Says at the end whether the folder keeps the lock's file; otherwise the file goes, and what was made of
            the folder and its parents goes where it is empty.
        named: The folder as the user wrote it, for messages; None says it as it is.

    Raises:
        AttngraftError: `busy`.
        OutputError: If the folder cannot be written.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    lock = _acquired(folder / LOCK, busy, 0, named or folder, CHOOSE)
    try:
        yield
    finally:
        left = not used()
        if left:
            # While it is held: once released another may hold it, and a third would get a new file of that name.
            with suppress(OSError):  # Windows deletes no open file, and its lock goes when it is released
                (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        if left:
            for parent in made:
                with suppress(OSError):
                    parent.rmdir()


def _acquired(file: Path, busy: AttngraftError | None, wait: float, named: Path, advice: str) -> FileLock:
    """Take a lock file in a folder, which is made, and which messages name."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, timeout=-1 if busy is None else wait)
        lock.acquire()
    except Timeout as error:
        assert busy is not None  # without it the wait has no end
        raise busy from error
    except OSError as error:
        raise OutputError(f"cannot write {named} ({error.strerror or error}); {advice}") from error
    return lock
