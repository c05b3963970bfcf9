"""Our classifiers, created by timm."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from attngraft.models import names

timm = pytest.importorskip("timm")


def test_timm_lists_every_classifier() -> None:
    assert set(timm.list_models("attngraft_*")) == {f"attngraft_{name}" for name in names("classify")}


def test_timm_creates_a_classifier_with_its_own_words() -> None:
    net = timm.create_model("attngraft_botnet50", num_classes=7, in_chans=1, img_size=64, width=8)
    assert (net.num_classes, net.in_channels, net.layer4[0].conv2.attention.size) == (7, 1, (4, 4))
    assert net(torch.rand(2, 1, 48, 64)).shape == (2, 7)


def test_features_only_gives_the_maps_of_the_stages() -> None:
    body = timm.create_model("attngraft_resnet50", features_only=True, out_indices=(1, 3), width=8)
    assert (body.feature_info.channels(), body.feature_info.reduction()) == ([64, 256], [8, 32])
    assert [tuple(m.shape) for m in body(torch.rand(1, 3, 64, 96))] == [(1, 64, 8, 12), (1, 256, 2, 3)]


def test_there_are_no_weights_to_be_had() -> None:
    with pytest.raises(ValueError, match="no weights of attngraft_botnet50"):
        timm.create_model("attngraft_botnet50", pretrained=True)


def test_timm_is_joined_when_it_comes_and_not_fetched(fresh: Callable[..., str]) -> None:
    code = """
import sys, attngraft.models
print("timm" in sys.modules)
import timm
print(timm.is_model("attngraft_hat"), timm.is_model("attngraft_botnet50"))
"""
    assert fresh(code).split() == ["False", "False", "True"]
