"""An encoder without a model: keys that follow from the letters of a text, for tests of what stands around encoders."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from attngraft._core.progress import SILENT, Progress, Silent
from attngraft.retrieve.index import Index
from attngraft.retrieve.items import Item, ids_of
from attngraft.retrieve.keys import Json, Keys, Kind

HEADS, DIM = 3, 4


class Letters:
    """Make random keys whose seed is the text."""

    kind: Kind = "text"
    heads, dim, width = HEADS, DIM, HEADS * DIM

    def __init__(self, seed: int = 0, batch: int = 4, dead: bool = False, wait: float = 0) -> None:
        self.seed, self.batch, self.dead, self.wait = seed, batch, dead, wait
        self.encoded: list[str] = []

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"letters {self.seed} {self.dead}".encode()).hexdigest()

    def describe(self) -> dict[str, Json]:
        return {"kind": self.kind, "model": "letters", "seed": self.seed}

    def parts(self, query: Item, how: str) -> list[Item]:
        assert how == "sentences"
        return [Item(str(n), text=one) for n, one in enumerate((query.text or "").split("."), 1)]

    def keys(self, items: Sequence[Item], *, queries: bool = False, progress: Progress = SILENT) -> Iterator[Keys]:
        for start in range(0, len(items), self.batch):
            some = items[start : start + self.batch]
            time.sleep(self.wait)
            self.encoded += ids_of(some)
            rows = [
                np.random.default_rng([self.seed, *(item.text or "").encode()]).normal(size=(HEADS, DIM))
                for item in some
            ]
            heads = np.stack(rows) * [[[1.0], [3.0], [0.0 if self.dead else 0.5]]]
            yield Keys(ids_of(some), heads, heads.reshape(len(some), -1))


class Counted(Silent):
    """Print how many items are stored, batch after batch."""

    def started(self, what: str) -> None:
        if what.startswith("encoding: "):
            print(what.split()[1], flush=True)


if __name__ == "__main__":  # a process that a test kills
    Index.build(sys.argv[1], model=Letters(wait=0.01), path=sys.argv[2], store=sys.argv[3], progress=Counted())
