"""The page that follows a study, in a real browser, and one run at a time for a queue."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attngraft._core.errors import OptionError, PlanError
from attngraft.study import monitor
from attngraft.study.running.records import Run
from attngraft.study.running.status import StatusFile
from attngraft.study.study import Study
from tests.browser import Browser, needs_browser
from tests.study.conftest import TINY

Make = Callable[..., Study]


@pytest.fixture
def followed(made_study: Make) -> Iterator[tuple[Study, str]]:
    """A study with two finished seeds, one run in its third epoch and one that failed, and the address of its page."""
    study = made_study({"stock": 0.3, "eca@P3": 0.1}, seeds=3, recorded=2, controls="stock")
    frozen, store = study.frozen_plan(), study.store
    study.conclude()
    for arm in frozen.arms:
        for seed in range(3):
            file = store.training(Run(arm, seed)) / "results.csv"
            file.parent.mkdir(parents=True)
            rows = "".join(f"{epoch},{0.1 * epoch + 0.01 * seed}\n" for epoch in range(1, 4))
            file.write_text(f"epoch,metrics/mAP50-95(B)\n{rows}")
    keeping = StatusFile(store, frozen)
    keeping.expect([Run(arm, seed) for seed in range(3) for arm in frozen.arms])
    going, bad = (Run(arm, 2) for arm in frozen.arms)
    keeping.started(going)
    keeping.update([going])
    keeping.ended(bad, "it <b>crashed</b>")
    with monitor.server(store.folder) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield study, f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def test_the_state_says_what_the_files_say(followed: tuple[Study, str]) -> None:
    _, address = followed
    with urllib.request.urlopen(f"{address}/state.json") as answer:
        state = json.loads(answer.read())
    assert state["curves"]["stock"] == {"0": [10, 20, 30], "1": [11, 21, 31], "2": [12, 22, 32]}
    assert [run["state"] for run in state["status"]["runs"]] == ["finished"] * 4 + ["running", "failed"]
    assert state["status"]["runs"][4]["epoch"] == 3
    assert len(state["answers"]) == 1
    assert state["metric"] == "AP"


def test_only_this_machine_is_answered(followed: tuple[Study, str]) -> None:
    _, address = followed
    foreign = urllib.request.Request(f"{address}/state.json", headers={"Host": "evil.example:80"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(foreign)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{address}/plan.yaml")


@needs_browser
def test_the_page_draws_curves_runs_and_verdict(followed: tuple[Study, str], tmp_path: Path) -> None:
    _, address = followed
    with Browser(tmp_path) as browser:
        browser.open(address, "document.querySelector('polyline')")
        dom: str = browser.run("document.documentElement.outerHTML")
    assert "4 of 6 runs finished" in dom
    assert "1 failed" in dom
    assert "running: stock, seed 2" in dom
    assert dom.count("<polyline") == 2
    assert "stock (3 seeds)" in dom
    assert "it &lt;b&gt;crashed&lt;/b&gt;" in dom
    assert "none before an arm" not in dom


def test_a_port_that_is_taken_is_named(followed: tuple[Study, str]) -> None:
    study, address = followed
    with pytest.raises(OptionError, match="cannot be used"):
        monitor.server(study.store.folder, int(address.rpartition(":")[2]))


def test_one_run_at_a_time_makes_the_study(tmp_path: Path, tiny_data: str) -> None:
    keys = {**TINY, "data": tiny_data, "arms": "eca@P3", "controls": "stock", "seeds": 1}
    study = Study(folder=tmp_path / "study", **keys)
    with pytest.raises(PlanError, match="fix it first: attngraft study prepare"):
        study.work(0)
    assert study.prepare() == 2
    assert study.runs() == []
    opened = Study.open(tmp_path / "study")
    with pytest.raises(PlanError, match="has the runs 0 to 1, got 2"):
        opened.work(2)
    assert opened.work(1) == (Run(opened.frozen_plan().arm("eca@P3"), 0), "")
    record = opened.records()[0]
    assert opened.work(1)[1] == ""
    assert opened.records() == [record]
