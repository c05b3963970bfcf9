"""The whole table: a healthy detector passes it, of every task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import attngraft
import attngraft.doctor
from attngraft._core.progress import Silent
from attngraft.doctor import Finding, examine
from attngraft.doctor.detector.checklist import DETECTOR_CHECKS
from attngraft.doctor.detector.subject import DetectorSubject
from attngraft.yolo.model import quiet
from tests.doctor.detector.kit import CHECKS, MICRO


def test_a_healthy_detector_passes_every_row(tiny_data: Callable[[str], str]) -> None:
    pytest.importorskip("cloudpickle", reason="needs the [dev] extra")
    seen: list[str] = []

    class Seen(Silent):
        def finished(self, what: str, result: object = None) -> None:
            assert isinstance(result, Finding)
            seen.append(what)

    diagnosis = attngraft.doctor(f"{MICRO}+eca@P3", imgsz=96, batch=2, data=tiny_data("detect"), progress=Seen())
    assert {f.status for f in diagnosis.findings} <= {"pass", "skip"}, str(diagnosis)
    assert seen == [item.name for item in DETECTOR_CHECKS]
    assert all(f.status == "pass" for f in diagnosis.findings if f.name in ("reload", "gpu workers", "identity"))
    assert {file.name for file in Path.cwd().iterdir()} == {"cache"}, "it leaves seed checkpoints alone behind"
    json.dumps(diagnosis.to_dict(), allow_nan=False)


@pytest.mark.parametrize("task", ["seg", "cls", "pose", "obb"])
def test_other_tasks_train_with_the_hosts_loss_and_reload(task: str) -> None:
    with quiet():
        subject = DetectorSubject(f"yolo11n-{task}.yaml+eca@4")
        found = list(examine(subject, [CHECKS[name] for name in ("opens", "gradients", "reload")]))
    assert {f.status for f in found} == {"pass"}, found
