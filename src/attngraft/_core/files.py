"""Files that are there whole or not at all, whatever kills the process that writes them."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from attngraft._core.errors import OutputError
from attngraft._core.escape import whole
from attngraft._core.shortage import shortage

CHOOSE = "choose another folder"
"""What to do where a folder that the user named cannot be written."""

IMAGES = (".avif", ".bmp", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp")
"""Suffixes, in small letters, of images in a folder: those of Ultralytics that Pillow and OpenCV read by themselves."""


def is_file(path: str | Path) -> bool:
    """Tell whether a text is the path of a file; one that no path can be, by its length or a NUL, is none.

    Example:
        >>> is_file("a" * 5000 + ".png")
        False
    """
    return os.path.isfile(path)  # Path.is_file raises for these


def require_writable(path: Path, *, as_file: bool = False, advice: str = CHOOSE) -> None:
    """Find out before the work whether what comes of it can be written.

    Args:
        path: The file or folder that is to be made.
        as_file: Whether it is to be a file, which no folder can be replaced by.
        advice: What to do where it cannot be made.

    Raises:
        OutputError: If it cannot be made where it is to be.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK) or (as_file and path.is_dir()):
        raise OutputError(f"cannot write {path} in {folder}; {advice}")


def write_text(file: Path, text: str) -> None:
    """Write a text file in one step.

    Args:
        file: Where to; replaced if it exists.
        text: What to write.

    Raises:
        OutputError: If it cannot be written.
    """
    write_whole(file, lambda partial: partial.write_text(whole(text), encoding="utf-8"))


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file in one step; the arguments are those of `write_text`."""
    write_whole(file, lambda partial: partial.write_bytes(content))


def write_whole(file: Path, write: Callable[[Path], object], *, advice: str = CHOOSE) -> None:
    """Let ``write`` fill a file beside the one that is wanted, and put it in its place when it is safe on the disk.

    A link stays a link, and the file that it points to is replaced. The mode is that of the file replaced, or what the
    umask leaves of 0666. A device such as ``/dev/null`` is written to and not replaced.

    Args:
        file: Where to; its folder is made.
        write: Fills the path that it is given, which ends like ``file``.
        advice: What to do where the folder cannot be written.

    Raises:
        OutputError: If the file cannot be written; names a full disk.
    """
    target = Path(os.path.realpath(file))
    if target.is_dir():
        raise OutputError(f"{file} is a folder; name a file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not target.is_file():
            _through(target, write)
        else:
            _replace(target, write)
    except OutputError:
        raise
    except (OSError, RuntimeError) as error:
        if (short := shortage(error)) is not None:
            raise OutputError(f"{file} is not written: {short}") from error
        if isinstance(error, RuntimeError):
            raise
        raise OutputError(f"cannot write {file} ({error.strerror or error}); {advice}") from error


def _replace(target: Path, write: Callable[[Path], object]) -> None:
    partial = target.with_name(f".attngraft-{secrets.token_hex(8)}{target.suffix}")
    # Exclusive, so that no link that somebody left there is followed; the umask and the folder's defaults set the mode.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        if target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        mode = stat.S_IMODE(partial.stat().st_mode)
        write(partial)
        partial.chmod(mode)  # a writer may put a private file of its own in this one's place, as safetensors does
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _through(device: Path, write: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder, f"partial{device.suffix}")
        write(partial)
        device.write_bytes(partial.read_bytes())


def link_or_copy(source: Path, target: Path) -> None:
    """Link a file, or copy it where there are no links: on some file systems, and on Windows without the privilege.

    Args:
        source: The file.
        target: Where to; its folder is there.
    """
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)


def numbered(path: Path) -> Iterator[Path]:
    """Yield ``path``, ``path-2``, ``path-3``, ... up to 9999: what is there already is left alone."""
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in range(2, 10_000))


def free_path(path: Path) -> Path:
    """Return the first of the `numbered` paths that does not exist."""
    return next(candidate for candidate in numbered(path) if not candidate.exists())


def free_file(path: Path) -> Path:
    """Return the first of ``look.html``, ``look-2.html``, ... that does not exist; a device is as free as ever.

    Raises:
        OutputError: If all of them exist.
    """
    names = [path, *(path.with_stem(f"{path.stem}-{number}") for number in range(2, 10_000))]
    free = next((name for name in names if not name.exists() or not name.is_file()), None)
    if free is None:
        raise OutputError(f"{path} and all its numbered names exist; choose another name")
    return free
