"""The process that trains, spoken to as its parent does."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace

import torch

from attngraft.probe.instrument import Instrument, ProbeRun
from attngraft.probe.ledger import parsed
from attngraft.probe.worker import serve


def test_epochs_and_a_record_come_back_and_an_error_ends_one_run_only() -> None:
    used = asdict(replace(Instrument(), images=16, validation=20, epochs=2))
    runs = [ProbeRun("mhssa", "reach", False, 0), ProbeRun("se", "reach", False, 0)]
    orders = io.StringIO("".join(json.dumps({"run": asdict(run), "instrument": used}) + "\n" for run in runs))
    answers, threads = io.StringIO(), torch.get_num_threads()
    try:
        serve(orders, answers)
    finally:
        torch.set_num_threads(threads)
    failed, first, second, last = map(json.loads, answers.getvalue().splitlines())
    assert failed["error"].startswith("RecipeError: no mechanism is called 'mhssa'")
    assert [one["epoch"] for one in (first, second)] == [1, 2]
    record = parsed(last["record"])
    assert record.run == runs[1]
    assert record.curve == (first["accuracy"], second["accuracy"])
