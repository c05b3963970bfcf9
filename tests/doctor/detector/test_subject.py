"""The detector under examination: its circumstances, its copies and its images."""

from __future__ import annotations

import pytest
import torch

from attngraft.doctor.detector.subject import DetectorSubject, grafted, predict
from attngraft.yolo.model import quiet
from tests.doctor.detector.kit import MICRO


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> DetectorSubject:
    with pytest.MonkeyPatch.context() as patch, quiet():
        patch.chdir(tmp_path_factory.mktemp("work"))
        found = DetectorSubject(f"{MICRO}+eca@P3,N3", imgsz=100)
        assert found.opened
    return found


def test_circumstances_are_those_of_the_model(subject: DetectorSubject) -> None:
    assert (subject.stride, subject.side, subject.small, subject.task, subject.channels) == (32, 128, 96, "detect", 3)
    assert [type(part).__name__ for part in subject.mechanisms.values()] == ["ECA", "ECA"]
    assert set(subject.shapes()) == set(subject.mechanisms)


def test_grafted_parameters_are_those_of_mechanisms_and_gates(subject: DetectorSubject) -> None:
    model = subject.fresh()
    ours = grafted(model, subject.mechanisms)
    assert sum(name.endswith("gamma") for name in ours) == 2
    assert sum(p.numel() for p in model.parameters()) > sum(p.numel() for p in ours.values()) > 0


def test_a_perturbed_copy_shows_what_a_zero_gate_hides(subject: DetectorSubject) -> None:
    assert not any(bool(p.any()) for n, p in subject.fresh().named_parameters() if n.endswith("gamma"))
    assert all(bool(p.any()) for n, p in subject.perturbed().named_parameters() if n.endswith("gamma"))
    first, second = subject.perturbed(), subject.perturbed()
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    scores = predict(first, subject.images(batch=1))[:, 4:]
    assert float(scores.std()) > 0.01, "the head listens"


def test_images_are_of_the_size_asked_for(subject: DetectorSubject) -> None:
    assert subject.images(32, 64, 3).shape == (3, 3, 32, 64)
    assert subject.images().shape == (2, 3, 96, 96)
    assert 0 <= float(subject.images().min()) < float(subject.images().max()) <= 1
