"""What a detector costs, and what it does not survive, is said by its row."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import attngraft
import attngraft.attention as zoo
import attngraft.doctor
from attngraft.doctor.mechanism import resources
from attngraft.export import to_onnx
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
    finding = find("memory of exports", f"{MICRO}+mha(heads=4)@P3", imgsz=1280)
    assert finding.status == "fail"
    assert finding.detail.startswith("9.8 GiB per image at 1280: mha at 3.grafts.0.mechanism, 25,600 cells")
    beside = find("memory of exports", f"{MICRO}+mhsa(heads=8)@P3+mha(heads=4)@P3", imgsz=1280)
    assert beside.detail == finding.detail.replace("grafts.0", "grafts.1"), "the larger one is exported in slices"
    training = find("memory at largest", f"{MICRO}+mhsa@P3", imgsz=1280, batch=64)
    assert training.status == "fail"
    assert int(training.detail.rpartition(" ")[2]) < 64
    dear = find("true flops", f"{MICRO}+mhsa@P3", imgsz=1280)
    assert dear.status == "warn"
    assert "the profiler of Ultralytics would print" in dear.detail


def test_attention_that_is_exported_in_slices_warns_of_accelerators_alone() -> None:
    finding = find("memory of exports", f"{MICRO}+mhsa(heads=4)@P3", imgsz=1280)
    assert finding.status == "warn"
    assert "traced on an accelerator (device=0) 9.8 GiB per image at 1280: mhsa at" in finding.detail
    assert find("memory of exports", f"{MICRO}+mhsa(heads=4)@P3", imgsz=320).status == "pass"


SLICED = {"mhsa", "psa_attention", "psa_block", "shsa"}
WHOLE = {"aifi", "mha", "non_local"}


@pytest.mark.parametrize("name", sorted(SLICED | WHOLE))
def test_slices_are_told_by_what_the_runtime_holds(name: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the [export] extra")
    runtime = pytest.importorskip("onnxruntime", reason="needs the [export] extra")
    record = zoo.mechanism(name)
    module = record.cls(64, **record.cls.fit(64)).eval()
    side = resources.TRACED_SIDE
    x = torch.randn(1, 64, side, side)
    model = onnx.load(to_onnx(module, x, tmp_path / "model.onnx").path)
    for node in model.graph.node:
        model.graph.output.extend(onnx.ValueInfoProto(name=output) for output in node.output)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    held = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert (max(value.size for value in held) < side**4) == (name in SLICED)
    assert resources.sliced_in_files(module, 64) == (name in SLICED)


def test_every_global_attention_is_looked_at() -> None:
    families = {n for n, record in zoo.mechanisms().items() if record.family == "global self-attention"}
    assert families == SLICED | WHOLE


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
    assert finding.remedy.startswith("fix the data file"), "no line of Ultralytics"
    assert finding.status == "fail"
    assert "nowhere.yaml" in finding.detail
