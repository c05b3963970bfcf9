"""The process that trains, spoken to as its parent does."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

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


def test_a_record_of_a_plugins_mechanism_has_the_checksum_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "probe_test_plugin.py"
    file.write_text(
        "import attngraft\nfrom torch import nn\n\n\n@attngraft.register\nclass ProbeTestPlugin(nn.Conv2d):\n"
        "    def __init__(self, channels):\n        super().__init__(channels, channels, 1)\n"
    )
    order = {
        "run": asdict(ProbeRun("probe_test_plugin", "reach", False, 0)),
        "instrument": asdict(replace(Instrument(), images=16, validation=20, epochs=1)),
    }
    answer = subprocess.run(
        [sys.executable, "-m", "attngraft.probe.worker", str(os.getpid())],
        input=json.dumps(order) + "\n",
        env={**os.environ, "ATTNGRAFT_PLUGINS": str(file)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()[-1]
    assert parsed(json.loads(answer)["record"]).source == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
