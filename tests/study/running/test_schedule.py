"""What stops a study before it is judged."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from attngraft._core.errors import PlanError
from attngraft.study.running.records import Run
from attngraft.study.running.schedule import carry_out, equal_detections
from attngraft.study.study import Study
from tests.study.running.test_status import Pretend

Make = Callable[..., Study]


def test_an_arm_that_equals_its_baseline_in_every_seed_stops_the_study(made_study: Make) -> None:
    """As where freeze= covers a graft: its verdict would be a difference of 0.00, from 0.00 to 0.00."""
    study = made_study({"stock": 0.3, "eca@P3": 0.3, "se@P3": 0.1}, seeds=2, controls="stock")
    store = study.store
    kept = store.folder / "kept"
    store.records.rename(kept)

    def made(run: Run) -> None:
        store.records.mkdir(exist_ok=True)
        source = f"stock-s{run.seed}" if run.arm.name == "eca@P3" else run.name
        for file in kept.glob(f"{source}.*"):
            shutil.copy(file, store.records / file.name.replace(source, run.name))
        record = json.loads((store.records / f"{run.name}.json").read_text())
        record |= {
            "arm": run.arm.name,
            "watch": {**record["watch"], "final": ["aa", 3], "gates": {"model.3.grafts.0": 0.0}},
        }
        (store.records / f"{run.name}.json").write_text(json.dumps(record))

    message = (
        r"eca@P3: in every seed its weights outside grafts equal the baseline's bit for bit, and no graft has moved"
    )
    with pytest.raises(PlanError, match=message):
        carry_out(store, study.frozen_plan(), Pretend(store, "", made))
    assert carry_out(store, study.frozen_plan(), Pretend(store, "", made), anyway=True) == {}


@pytest.mark.parametrize(
    ("change", "equal"),
    [({}, True), ({"score": 1e-8}, True), ({"score": 1e-3}, False), ({"x": 1e-5}, True), ({"x": 0.1}, False)],
    ids=str,
)
def test_equal_detections_are_those_that_differ_by_rounding(
    made_study: Make, change: dict[str, float], equal: bool
) -> None:
    study = made_study({"stock": 0.3, "eca@P3": 0.3}, seeds=1, controls="stock")
    stock, eca = (Run(study.frozen_plan().arm(name), 0) for name in ("stock", "eca@P3"))
    found: list[dict[str, Any]] = study.store.detections(stock)
    found[-1]["score"] += change.get("score", 0.0)
    found[-1]["bbox"][0] += change.get("x", 0.0)
    file = study.store.records / f"{eca.name}.detections.json.gz"
    file.write_bytes(gzip.compress(json.dumps(list(reversed(found))).encode()))
    assert equal_detections(study.store, eca, stock) is equal
