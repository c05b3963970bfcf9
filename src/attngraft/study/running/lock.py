"""One process at a time carries out a study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from attngraft._core.errors import OutputError, PlanError
from attngraft.study.fixed import Fixed

LOCK = ".lock"


@contextmanager
def alone(folder: Path, named: Path) -> Iterator[None]:
    """Keep a second process from carrying out the same study; a study that is refused leaves nothing behind.

    Args:
        folder: The study's folder.
        named: The same as the user wrote it, for messages.

    Raises:
        PlanError: If another process is carrying it out.
        OutputError: If the folder cannot be written.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise PlanError(f"another process is carrying out {named}; wait for it, or end it first") from error
    except OSError as error:
        raise OutputError(f"cannot write {named}: {error.strerror}; choose another folder") from error
    try:
        yield
    finally:
        refused = not (folder / Fixed.FILE).is_file()
        if refused:
            # While it is held: once released another may hold it, and a third would get a new file of that name.
            with suppress(OSError):  # Windows deletes no open file, and its lock goes when it is released
                (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        if refused:
            for parent in made:
                with suppress(OSError):
                    parent.rmdir()
