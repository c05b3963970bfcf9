"""Standard output below Python: what exporters and runtimes print themselves goes elsewhere, or nowhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

STDOUT, STDERR = 1, 2
"""File descriptors."""


@contextmanager
def silenced() -> Iterator[None]:
    """Throw away what is written to standard output inside, by Python or below it."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, _turned_to(nowhere.fileno()), redirect_stdout(nowhere):
        yield


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what is written to standard output inside to standard error, so that the former is one document."""
    with _turned_to(STDERR), redirect_stdout(sys.stderr):
        yield


@contextmanager
def _turned_to(descriptor: int) -> Iterator[None]:
    sys.stdout.flush()
    kept = os.dup(STDOUT)
    try:
        os.dup2(descriptor, STDOUT)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, STDOUT)
        os.close(kept)
