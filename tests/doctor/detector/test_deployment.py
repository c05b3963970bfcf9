"""What a detector costs, and what it does not survive, is said by its row."""

from __future__ import annotations

import pytest
import torch

import attngraft
import attngraft.doctor
from tests.doctor.detector.kit import MICRO, find


def test_adaptive_pooling_cannot_be_exported(broken: None) -> None:
    pytest.importorskip("onnxruntime", reason="needs the [export] extra")
    finding = find("onnx", f"{MICRO}+pools_up@P3")
    assert finding.status == "fail"
    assert "adaptive_avg_pool2d" in finding.detail
    assert "no adaptive pooling" in finding.remedy


def test_global_attention_on_a_large_map_is_refused_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from attngraft.measure import memory

    monkeypatch.setattr(memory, "free", lambda *_: 16 * 2**30)
    finding = find("memory of exports", f"{MICRO}+mhsa(heads=4)@P3", imgsz=1280)
    assert finding.status == "fail"
    assert "9.8 GiB per image at 1280: mhsa at 3.grafts.0.mechanism, 25,600 cells" in finding.detail
    training = find("memory at largest", f"{MICRO}+mhsa@P3", imgsz=1280, batch=64)
    assert training.status == "fail"
    assert int(training.detail.rpartition(" ")[2]) < 64
    dear = find("true flops", f"{MICRO}+mhsa@P3", imgsz=1280)
    assert dear.status == "warn"
    assert "the profiler of Ultralytics would print" in dear.detail


def test_all_pairs_of_a_users_own_attention_are_measured(broken: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from attngraft.measure import memory

    monkeypatch.setattr(memory, "free", lambda *_: 16 * 2**30)
    finding = find("memory of exports", f"{MICRO}+all_pairs@P3", imgsz=1280)
    assert finding.status == "fail"
    need = float(finding.detail.partition(" ")[0])
    assert need == pytest.approx(4 * 4 * 25_600**2 / 2**30, rel=0.15), "four heads in float32"
    assert "all_pairs at 3.grafts.0.mechanism, 25,600 cells" in finding.detail
    assert find("memory of exports", f"{MICRO}+mixes_batch@P3", imgsz=1280).status == "pass"


def test_flops_of_large_pictures_are_extended_exactly() -> None:
    from attngraft.doctor.mechanism.resources import flops_at
    from attngraft.measure import flops

    model = attngraft.YOLO(f"{MICRO}+mhsa(position=none)@P3").model
    assert flops_at(model, 640) == pytest.approx(flops(model, torch.zeros(1, 3, 640, 640)), rel=1e-3)


def test_a_broken_data_file_is_a_finding() -> None:
    finding = find("data", MICRO, data="nowhere.yaml")
    assert finding.status == "fail"
    assert "nowhere.yaml" in finding.detail
