"""One comparison that several tests look at."""

from __future__ import annotations

import pytest

import attngraft
from attngraft.bench import Bench
from tests.bench.kit import GRAFTED, MICRO


@pytest.fixture(scope="package")
def found(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNGRAFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return attngraft.bench(
            [MICRO, GRAFTED], imgsz=64, batch=2, rounds=3, train=True, backends=["eager", "onnxruntime", "tensorrt"]
        )
