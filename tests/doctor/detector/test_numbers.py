"""A detector whose numbers are wrong is caught by its row."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

import attngraft
from attngraft.doctor import examine
from attngraft.doctor.detector.checklist import DETECTOR_CHECKS
from attngraft.doctor.detector.subject import DetectorSubject, loss
from attngraft.yolo.model import quiet
from tests.doctor.detector.kit import CHECKS, MICRO, find


@pytest.mark.parametrize(
    ("check", "recipe", "message"),
    [
        ("opens", "fixed_table@P3", r"size of tensor a \(\d+\) must match the size of tensor b \(14\)"),
        ("mechanisms", "nan_small@P3", "NanSmall: sizes: 1x1: .*values are not finite"),
        ("mechanisms", "in_place@P3", "InPlace: input kept: modified in training and inference mode"),
        ("mechanisms", "mixes_batch@P3", "MixesBatch: batch: "),
        ("identity", "in_place@P3", "differs from the base"),
        ("batches", "mixes_batch@P3", "an image's output changes by"),
        ("gradients", "detached@P3", "none reaches .*conv.weight"),
        ("training", "explodes@P3", "the loss is nan at step 0"),
        ("half precision", "overflows@P3", "float16: values are not finite"),
        ("averaged copy", "keeps_its_output@P3", "RuntimeError: Only Tensors created explicitly"),
        ("same seed", "noisy@P3", "two inferences differ"),
    ],
)
def test_each_way_to_break_one_is_caught(check: str, recipe: str, message: str, broken: None) -> None:
    finding = find(check, f"{MICRO}+{recipe}")
    assert finding.status == "fail", finding
    assert re.search(message, finding.detail), finding.detail
    assert finding.remedy


def test_a_random_detector_is_not_compared_with_itself(broken: None) -> None:
    with quiet():
        subject = DetectorSubject(f"{MICRO}+noisy@P3")
        rows = [CHECKS[name] for name in ("same seed", "batches", "averaged copy", "torchscript", "reload")]
        first, *others = examine(subject, rows)
    assert first.status == "fail"
    assert {(f.status, f.detail) for f in others} == {("skip", "needs 'same seed', which failed")}
    names = [item.name for item in DETECTOR_CHECKS]
    assert all(names.index(needed) < names.index(item.name) for item in DETECTOR_CHECKS for needed in item.needs)


@pytest.mark.parametrize(
    ("base", "weights"), [("yolov8n-worldv2", "cv4.0.logit_scale"), ("yoloe-11n-seg", "reprta.m.w3.weight")]
)
def test_models_that_find_what_texts_name_are_examined_with_texts(base: str, weights: str) -> None:
    """Embeddings of class names are neither tensors of a state nor in the YAML, and a new YOLOE has none."""
    with quiet():
        subject = DetectorSubject(f"{base}.yaml+eca@P3")
        rows = ("rebuild", "same seed", "gradients", "training", "half precision", "averaged copy")
        found = examine(subject, [CHECKS[name] for name in rows])
    assert {f.name: (f.status, f.detail) for f in found if f.status != "pass"} == {}
    model = subject.fresh()
    loss(subject, model).backward()
    assert model.get_parameter(f"model.{len(model.model) - 1}.{weights}").grad.any()


def test_the_papers_form_and_replacements_promise_no_identity() -> None:
    assert find("identity", f"{MICRO}+eca(init=paper)@P3").status == "skip"
    assert find("identity", MICRO).status == "skip"


@pytest.mark.parametrize(
    ("recipe", "imgsz", "side", "stride"),
    [
        (MICRO, 100, 128, 32),
        ("yolov8n-p6.yaml", 100, 128, 64),
        ("yolo11n-cls.yaml", 100, 100, 32),
    ],
)
def test_images_follow_the_strides_of_the_model(recipe: str, imgsz: int, side: int, stride: int) -> None:
    with quiet():
        subject = DetectorSubject(recipe, imgsz)
        opens, *others = examine(subject, [CHECKS[name] for name in ("opens", "image sizes", "memory at largest")])
    assert (subject.side, subject.stride) == (side, stride)
    assert (f"imgsz={imgsz} is {side}, as the stride is {stride}" in opens.detail) == (imgsz != side)
    assert {f.status for f in others} == {"pass"}, others
    assert others[0].detail.startswith(f"{2 * stride}x{2 * stride}, {stride}x{stride}, ")
    assert f"{side}x{side}" in others[1].detail


def test_the_hosts_own_attention_is_pytorchs_fault_with_one_image() -> None:
    finding = find("one image", "yolo12n.yaml", batch=2)
    if finding.status == "pass":
        pytest.skip("this PyTorch reads the layout")
    assert finding.status == "warn"
    assert "PyTorch's batch norm misreads the layout at model.6.m.0.0.attn.qkv.bn" in finding.detail
    assert "batch=2 or more" in finding.remedy
    assert find("one image", f"{MICRO}+area_attention@P3", batch=1).status == "pass"


def saved(change: Callable[[Any], object], recipe: str = f"{MICRO}+eca@P3") -> str:
    """Save a checkpoint that a change sets apart from its own YAML."""
    with quiet():
        opened = attngraft.YOLO(recipe)
        change(opened.model)
        opened.save("changed.pt")
    return "changed.pt"


def wider(model: Any) -> None:
    old = model.model[0].conv
    model.model[0].conv = torch.nn.Conv2d(3, old.out_channels, 5, 2, 2, bias=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m.model[0].conv, "bias", torch.nn.Parameter(torch.ones(16))), "1 tensors, such as .*bias"),
        (wider, r"conv\.weight: \(16, 3, 5, 5\) and \(16, 3, 3, 3\) after"),
        (
            lambda m: setattr(m.model[0], "bn", torch.nn.Identity()),
            r"5 tensors, such as .*: none and \(16,\) after",
        ),
    ],
    ids=["name", "shape", "missing"],
)
def test_a_checkpoint_that_differs_from_its_yaml_is_the_cause(change: Callable[[Any], object], message: str) -> None:
    finding = find("rebuild", saved(change))
    assert finding.status == "fail"
    assert f"the checkpoint differs from its own YAML ({MICRO})" in finding.detail, finding.detail
    assert re.search(message, finding.detail), finding.detail
    assert "starts missing ones at random" in finding.remedy


def test_a_head_that_was_pretrained_on_more_classes_is_rebuilt_with_their_widths(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every checkpoint that was trained from COCO's weights on a few classes is of this kind."""
    inner = "model.23.cv3.0.0.1.conv.weight"
    few = DetectionModel("yolo11n.yaml", nc=3, verbose=False)
    own = few.state_dict()[inner].shape
    few.load(DetectionModel("yolo11n.yaml", nc=80, verbose=False), verbose=False)
    if few.state_dict()[inner].shape == own:
        pytest.skip("this Ultralytics keeps the widths of the head's own classes")
    with quiet():
        opened = attngraft.YOLO("yolo11n.yaml")
        opened.model = few
        opened.save("few.pt")
    assert find("rebuild", "few.pt+eca@P5").status == find("rebuild", "few.pt").status == "pass"
    caplog.clear()
    attngraft.YOLO("few.pt+eca@P5")
    assert "its own YAML" not in caplog.text
    attngraft.YOLO(f"{saved(wider)}+eca@N3")
    assert "tensors of changed.pt, such as model.0.conv.weight, are not those of its own YAML" in caplog.text


def test_a_layer_of_other_numbers_is_found_although_its_tensors_are_the_same() -> None:
    finding = find("rebuild", saved(lambda m: setattr(m.model[0], "act", torch.nn.Tanh())))
    assert (finding.status, "the rebuild gives other numbers" in finding.detail) == ("fail", True)


def test_a_mechanism_of_another_class_than_the_checkpoints_is_named() -> None:
    def grow(model: Any) -> None:
        (part,) = [m for m in model.modules() if type(m).__name__ == "ECA"]
        part.more = torch.nn.Parameter(torch.ones(3))

    finding = find("rebuild", saved(grow))
    assert (finding.status, "class of a mechanism builds other tensors" in finding.detail) == ("fail", True)
    assert "--plugin" in finding.remedy
