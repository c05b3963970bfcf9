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


def test_maps_may_be_counted_from_the_last_and_must_be_there() -> None:
    body = timm.create_model("attngraft_resnet50", features_only=True, out_indices=(-2, -1), width=8)
    assert body.feature_info.channels() == [128, 256]
    with pytest.raises(ValueError, match=r"out_indices of 0 to 3, got \(7,\)"):
        timm.create_model("attngraft_resnet50", features_only=True, out_indices=(7,), width=8)


@pytest.mark.parametrize("name", ["botnet50", "dilateformer_tiny", "mobilenetv3_small"])
def test_a_classifier_is_what_timms_scripts_expect(name: str) -> None:
    """The keywords of timm's train.py, its data preparation, and a new classifier for fine-tuning."""
    always = {"drop_rate": 0.0, "drop_path_rate": 0.0, "global_pool": "avg", "img_size": 96}
    with torch.device("meta"):
        net = timm.create_model(f"attngraft_{name}", num_classes=9, **always)
    config = timm.data.resolve_model_data_config(net)
    assert (config["input_size"][0], config["mean"]) == (3, (0.485, 0.456, 0.406))
    assert net.get_classifier().out_features == 9
    net.reset_classifier(4)
    assert (net.num_classes, net.get_classifier().out_features) == (4, 4)
    net.reset_classifier(0)
    assert net.to_empty(device="cpu").eval()(torch.rand(1, 3, 32, 32)).shape == (1, net.num_features)


def test_what_a_model_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"attngraft_botnet50 has nothing to set by drop_rate=0.2; leave it out"):
        timm.create_model("attngraft_botnet50", drop_rate=0.2)
    with pytest.raises(ValueError, match=r"nothing to set by global_pool='max'"):
        timm.create_model("attngraft_dilateformer_tiny", global_pool="max")
    with pytest.raises(ValueError, match=r"by global_pool=''; leave it out; features_only=True gives maps"):
        timm.create_model("attngraft_botnet50", num_classes=0, global_pool="")  # in timm a map, and ours is a vector


def test_timms_drop_path_and_dropout_are_ours() -> None:
    with torch.device("meta"):
        swin = timm.create_model("attngraft_dilateformer_tiny", drop_path_rate=0.5)
        mobile = timm.create_model("attngraft_mobilenetv3_small", drop_rate=0.4)
    rates = [part.rate for part in swin.modules() if type(part).__name__ == "DropPath"]
    assert max(rates) == 0.5
    assert mobile.head[2].p == 0.4


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
