"""Lets output never end a command: what a terminal cannot show is spelled out, and a closed pipe is written past.

``attngraft export ... | head -1`` finishes the export, and a terminal that knows ASCII alone sees ``x`` for ``×``.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Any, TextIO

SPELLED = {
    "–": "-", "—": "-", "‐": "-", "−": "-", "×": "x", "·": "*", "…": "...", "→": "->", "▶": ">", "±": "+/-", "≤": "<=",
    "≥": ">=", "≈": "~", "‘": "'", "’": "'", "“": '"', "”": '"', "✅": "ok", "❌": "x", "⚠": "!", "\ufe0f": "",
}  # fmt: skip
"""How signs of our sentences, and of Ultralytics', are written in ASCII."""

HANDLER = "attngraft.spell"


def spell(error: UnicodeError) -> tuple[str, int]:
    r"""Write in ASCII what an encoding lacks; an error handler of `codecs`.

    Raises:
        UnicodeError: If it is no encoding that failed.

    Example:
        >>> codecs.register_error(HANDLER, spell)
        >>> "20 × 20 → 果".encode("ascii", HANDLER)
        b'20 x 20 -> \\u679c'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SPELLED.get(sign, sign.encode("ascii", "backslashreplace").decode()) for sign in lacking), error.end


class Outlet(io.FileIO):
    """A file descriptor that is written past once nobody reads it; any other failure is kept, and told once.

    Args:
        descriptor: The descriptor; it stays open when the outlet goes.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        """Write what is taken; say that all was where no more can be."""
        try:
            return super().write(data)
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.failure = error
            # What others write below Python goes the same way, and ends nothing there either.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(memoryview(data).cast("B"))


def make_lenient() -> None:
    """Replace this process's stdout and stderr by streams that no output can end.

    Streams that are not the process's own, as in a notebook or under a test, are left alone.
    """
    codecs.register_error(HANDLER, spell)
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (as long as the process)
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            stream.flush()
            buffered = io.BufferedWriter(Outlet(stream.fileno()))
            lenient = io.TextIOWrapper(
                buffered,
                stream.encoding,
                HANDLER,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, lenient)


def failure() -> OSError | None:
    """Flush stdout and return why it could not be written, if it could not and somebody reads it."""
    stream = sys.stdout
    stream.flush()
    outlet = getattr(getattr(stream, "buffer", None), "raw", None)
    return outlet.failure if isinstance(outlet, Outlet) else None
