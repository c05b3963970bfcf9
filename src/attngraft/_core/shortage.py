"""What a process ran out of, read from the errors that libraries raise when it does."""

from __future__ import annotations

import errno

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would pass the size limit of this process (ulimit -f)",
}
MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory", "std::bad_alloc")
WRITER = ("PytorchStreamWriter failed", "unexpected pos", "iostream error")
"""What PyTorch's own writer says when a file cannot grow, whatever stopped it."""


def shortage(error: BaseException) -> str | None:
    """Say what ran out where an error, or one that led to it, means that something did.

    Args:
        error: What was raised; its causes are looked at too.

    Returns:
        A clause that names what to do, such as "the disk is full; free some space and give the same command again",
        or None for any other error.

    Example:
        >>> shortage(OSError(errno.ENOSPC, "No space left on device"))
        'the disk is full; free some space and run the same command again'
        >>> shortage(ValueError("no"))
    """
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        if (what := _ran_out(found)) is not None:
            return what
        found = found.__cause__ or found.__context__
    return None


def _ran_out(error: BaseException) -> str | None:
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{FULL[error.errno]}; free some space and run the same command again"
    text = str(error)
    if isinstance(error, RuntimeError) and any(said in text for said in WRITER):
        return "the disk is full or a size limit is reached; free some space and run the same command again"
    if type(error).__name__ == "OutOfMemoryError":  # torch's; by name, since this is imported before torch
        return "the accelerator's memory ran out; lower batch or imgsz and run the same command again"
    if isinstance(error, MemoryError) or (
        isinstance(error, (RuntimeError, OSError, ImportError)) and any(said in text.lower() for said in MEMORY)
    ):
        return (
            "memory ran out; lower batch, imgsz or workers, or raise the limit (ulimit -v), and run the command again"
        )
    return None
