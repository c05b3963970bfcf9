"""A small benchmark with known keys, and an index of it without a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from attngraft._core.progress import SILENT, Progress
from attngraft.retrieve import Item, Keys
from attngraft.retrieve.evaluation import Benchmark, Subject
from attngraft.retrieve.stores.arrays import ArrayStore

HEADS, DIM, WIDTH, DOCUMENTS = 3, 4, 12, 40
ASPECTS = (1, 2, 3, 3, 6, 8)


def drawn(names: Sequence[str], seed: int) -> Keys:
    random = np.random.default_rng(seed)
    heads = random.normal(size=(len(names), HEADS, DIM)) * [[[1.0], [3.0], [0.4]]] + 0.7
    return Keys(tuple(names), heads.astype(np.float32), random.normal(0.3, 1, (len(names), WIDTH)).astype(np.float32))


@dataclass
class KnownKeys:
    """An encoder that knows the keys of a few names; batches come in another order than they are asked for."""

    known: Mapping[str, Keys]
    kind: str = "text"
    asked: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "model": "known"}

    def parts(self, query: Item, how: str) -> list[Item]:
        assert how == "sentences"
        return [replace(query, text=text) for text in (query.text or "").split(". ")]

    def keys(self, items: Sequence[Item], *, queries: bool = False, progress: Progress = SILENT) -> Iterator[Keys]:
        assert queries
        for item in reversed(items):
            self.asked.append(item.id)
            yield Keys((item.id,), self.known[item.id].heads, self.known[item.id].standard)


@dataclass
class SmallIndex:
    store: ArrayStore
    encoder: KnownKeys


@pytest.fixture
def benchmark() -> Benchmark:
    random = np.random.default_rng(5)
    documents = {
        f"d{i}": Item(f"d{i}", f"words w{i} of document", fields={"title": f"Title {i}", "category": f"c{i % 7}"})
        for i in range(DOCUMENTS)
    }
    judged = {
        f"q{k}": {f"d{i}": 1 for i in random.choice(DOCUMENTS, count, replace=False)} for k, count in enumerate(ASPECTS)
    }
    queries = tuple(Item(name, ". ".join(f"w{d[1:]}" for d in wanted)) for name, wanted in judged.items())
    return Benchmark("small", documents, queries, judged, 2)


@pytest.fixture
def index(benchmark: Benchmark) -> SmallIndex:
    store = ArrayStore(HEADS, DIM, WIDTH)
    store.add(drawn(list(benchmark.documents), 0), [item.fields for item in benchmark.documents.values()])
    names = [q.id for q in benchmark.queries]
    names += [f"{q.id}/{k}" for q in benchmark.queries for k in range(len(benchmark.judged[q.id]))]
    keys = drawn(names, 1)
    return SmallIndex(store, KnownKeys({name: keys.take([row]) for row, name in enumerate(names)}))


@pytest.fixture
def subject(benchmark: Benchmark, index: SmallIndex) -> Subject:
    known = index.encoder.known

    def joined(names: Sequence[str]) -> Keys:
        return Keys(
            tuple(names),
            np.concatenate([known[name].heads for name in names]),
            np.concatenate([known[name].standard for name in names]),
        )

    parts = [joined([f"{q.id}/{k}" for k in range(len(benchmark.judged[q.id]))]) for q in benchmark.queries]
    return Subject(index.store, benchmark, joined([q.id for q in benchmark.queries]), 9, lambda: parts)
