"""Weights that pass from one model to another, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from attngraft.models import BoTNet, create, load_shared, load_timm
from tests.attention.slow import randomise

SMALL = {"width": 16, "num_classes": 10}


def test_a_resnet_gives_the_numbers_of_torchvisions() -> None:
    theirs = randomise(torchvision.models.resnet50()).float()
    ours = create("resnet50").eval()
    shared = load_shared(ours, theirs.state_dict())
    assert (shared.missing, shared.left) == ((), ())
    x = torch.rand(1, 3, 33, 49)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=0, rtol=1e-5)


def test_a_botnet_takes_all_of_a_resnet_but_the_convolutions_that_it_lacks() -> None:
    shared = load_shared(create("botnet50"), torchvision.models.resnet50().state_dict())
    assert shared.left == tuple(f"layer4.{i}.conv2.weight" for i in range(3))
    assert all(".conv2.attention." in name for name in shared.missing)
    assert str(shared) == "317 of 326 tensors taken; 3 left over"


def test_position_tables_of_another_size_are_resized_to_the_same_function() -> None:
    small = randomise(create("botnet50", image_size=64, **SMALL)).float()
    large = create("botnet50", image_size=96, **SMALL).eval()
    shared = load_shared(large, small.state_dict())
    assert shared.missing == ()
    assert len(shared.resized) == 6
    x = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(large(x), small(x))


def test_tables_of_a_number_a_cell_are_resized_to_the_same_function() -> None:
    small, large = (
        randomise(
            create("flatten_pvt_tiny", image_size=size, channels=(8, 16, 40, 64), depths=(1, 1, 1, 1), num_classes=3)
        ).float()
        for size in (32, 64)
    )
    shared = load_shared(large.eval(), small.eval().state_dict())
    assert shared.missing == ()
    assert len(shared.resized) == 8
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(large(x), small(x))


def test_a_classifier_of_other_classes_stays() -> None:
    ours = create("resnet50", width=16, num_classes=7)
    before = ours.fc.weight.clone()  # type: ignore[union-attr, operator]
    shared = load_shared(ours, create("resnet50", **SMALL).state_dict())
    assert set(shared.missing) == set(shared.left) == {"fc.weight", "fc.bias"}
    assert torch.equal(ours.fc.weight, before)  # type: ignore[arg-type, union-attr]


def test_a_classifier_of_as_many_classes_is_taken() -> None:
    assert "fc.weight" in load_shared(create("resnet50", **SMALL), create("resnet50", **SMALL).state_dict()).taken


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {f"module.{name}": value for name, value in state.items()}, "shares no tensor"),
        (lambda state: {}, "begins with nothing"),
        (
            lambda state: {**state, "conv1.weight": torch.zeros(16, 1, 7, 7)},
            r"\(16, 1, 7, 7\) in the state and \(16, 3,",
        ),
        (lambda state: {k: v for k, v in state.items() if k != "bn1.bias"}, "fills bn1 only in part: .* no bn1.bias"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, message: str) -> None:  # type: ignore[no-untyped-def]
    ours = create("botnet50", **SMALL)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_shared(ours, change(create("resnet50", **SMALL).state_dict()))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_a_detector_takes_a_classifier_into_its_backbone() -> None:
    detector = create("fasterrcnn_botnet50", max_size=64, body_options={"width": 16})
    classifier = randomise(create("resnet50", **SMALL)).float()
    shared = load_shared(detector, classifier.state_dict())
    assert shared.left == (*(f"layer4.{i}.conv2.weight" for i in range(3)), "fc.weight", "fc.bias")
    assert all(name.startswith("backbone.body.") for name in shared.taken)
    assert {"rpn.head.cls_logits.weight", "backbone.fpn.layer_blocks.0.0.bias"} <= set(shared.missing)
    assert torch.equal(detector.backbone.body.conv1.weight, classifier.conv1.weight)  # type: ignore[arg-type, union-attr]


def timm_model(name: str) -> nn.Module:
    """Build timm's model with position tables that matter, and norms that know the size of what comes through."""
    timm = pytest.importorskip("timm")
    model: nn.Module = timm.create_model(name)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("_rel"):
                tensor.mul_(3)
            elif key.endswith(("bn.weight", "post_attn.weight")):
                tensor.uniform_(0.5, 1.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model(torch.randn(1, 3, 256, 256))
    return model.eval()


@pytest.mark.parametrize("name", ["botnet26t", "botnet50ts"])
def test_timms_weights_give_timms_numbers(name: str) -> None:
    theirs = timm_model(f"{name}_256")
    ours = create(name).eval()
    shared = load_timm(ours, theirs.state_dict())
    assert (shared.missing, shared.left) == ((), ())
    x = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
        torch.testing.assert_close(found, expected, atol=1e-4 * expected.abs().max().item(), rtol=0)
        tables = {k: v for k, v in ours.state_dict().items() if k.endswith("_table")}
        ours.load_state_dict({k: v / v.shape[2] ** 0.5 for k, v in tables.items()}, strict=False)
        assert (ours(x) - expected).abs().max() > 1e-2 * expected.abs().max()  # the factor matters


@pytest.mark.parametrize("name", ["botnet26t", "botnet50ts"])
def test_weights_start_as_timms(name: str) -> None:
    """Every tensor of more than a few numbers has the mean and the spread of timm's own, once its names are ours."""
    timm = pytest.importorskip("timm")
    ours, theirs = create(name), create(name)
    load_timm(theirs, timm.create_model(f"{name}_256").state_dict())
    expected, compared = theirs.state_dict(), 0
    for key, value in ours.state_dict().items():
        if value.is_floating_point() and (value.numel() > 2000 or expected[key].std() == 0):
            assert value.std().item() == pytest.approx(expected[key].std().item(), rel=0.1), key
            assert value.mean().item() == pytest.approx(expected[key].mean().item(), abs=0.1 * value.std().item()), key
            compared += "attention" in key
    assert compared >= 3


def test_timms_weights_need_a_model_of_timms_form() -> None:
    state = timm_model("botnet26t_256").state_dict()
    with pytest.raises(ValueError, match="conv1.weight|in part|has shape"):
        load_timm(BoTNet(("cc", "cc", "cc", "aa"), stem="tiered", width=32), state)
