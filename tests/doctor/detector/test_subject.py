"""The detector under examination: its circumstances, its copies and its images."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from attngraft.doctor.detector.subject import DetectorSubject, grafted, predict
from attngraft.yolo.deviations import BOUNDS, reference
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


@pytest.mark.parametrize("seed", range(3))
def test_an_untrained_detector_is_examined_where_rounding_is_far_below_what_images_change(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it not, two right files would differ by more than the bound: 0.38 pixels where 0.1 pass.

    Two that round as much in opposite directions differ by twice the rounding, so half the bound is the limit.
    """
    monkeypatch.chdir(tmp_path)
    bound = {part: BOUNDS["fp32"][part].absolute for part in ("boxes", "scores")}
    with quiet(), torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        found = DetectorSubject("yolo11n.yaml+mhsa(init=paper)@P5", imgsz=160)
        model, x = reference(found.perturbed()), found.images(96, 160)
        y, exact = model(x)[0], copy.deepcopy(model).double()(x.double())[0]
    rounding = (y - exact).abs()
    assert float(rounding[:, :4].max()) < bound["boxes"] / 2
    assert float(rounding[:, 4:].max()) < bound["scores"] / 2
    change = (y[0] - y[1]).abs()
    assert float(change[:4].mean()) > 10 * bound["boxes"]
    assert float(change[4:].mean()) > 10 * bound["scores"]


def test_images_are_of_the_size_asked_for(subject: DetectorSubject) -> None:
    assert subject.images(32, 64, 3).shape == (3, 3, 32, 64)
    assert subject.images().shape == (2, 3, 96, 96)
    assert 0 <= float(subject.images().min()) < float(subject.images().max()) <= 1
