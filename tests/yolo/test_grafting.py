"""The graft keeps the base: its keys, its numbers, its random stream, and its life as a host model."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from ultralytics.nn.modules.transformer import TransformerEncoderLayer
from ultralytics.nn.tasks import (
    ClassificationModel,
    DetectionModel,
    OBBModel,
    PoseModel,
    RTDETRDetectionModel,
    SegmentationModel,
)

import attngraft
import attngraft.attention as zoo
from attngraft._core.errors import CheckpointError, OptionError, PlaceError
from attngraft.yolo.grafting import BoTConv, Graft, TokenEncoder
from attngraft.yolo.joining import graft_model
from attngraft.yolo.rebuilding import rebuilt
from attngraft.yolo.recipe import parse_grafts
from attngraft.yolo.rows import YAML_KEY

# Number of tensors in the stock state dict; every one must keep its key and its shape.
STOCK = {
    "yolo11n": (DetectionModel, 499), "yolov8n": (DetectionModel, 355), "yolov10n": (DetectionModel, 595),
    "yolo12n": (DetectionModel, 691), "yolo26n": (DetectionModel, 708), "yolov9t": (DetectionModel, 1339),
    "yolo11n-seg": (SegmentationModel, 561), "yolo11n-cls": (ClassificationModel, 236),
    "yolov8n-pose": (PoseModel, 397), "yolo11n-obb": (OBBModel, 541), "rtdetr-l": (RTDETRDetectionModel, 941),
    "yolo11s": (DetectionModel, 499),
}  # fmt: skip


def build(name: str) -> nn.Module:
    return STOCK[name][0](f"{name}.yaml", verbose=False)


def grafted(grafts: str, base: str = "yolo11n", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = build(base)
    graft_model(model, parse_grafts(grafts))
    return model


def answers(model: nn.Module, picture: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [leaf for leaf in tree_leaves(model.eval()(picture)) if isinstance(leaf, Tensor)]


def wake(model: nn.Module) -> nn.Module:
    """Move every gamma away from zero, or what a mechanism without one starts at, so that the grafts speak."""
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("gamma") or (".grafts." in key and not value.any()):
                value.fill_(0.5)
    return model


@pytest.mark.parametrize("name", STOCK)
def test_stock_keys_stay_and_the_start_is_the_identity_bit_for_bit(name: str) -> None:
    base = build(name)
    model = copy.deepcopy(base)
    graft_model(model, parse_grafts("mhsa@P5+se@P4"))
    stock, mine = base.state_dict(), model.state_dict()
    assert len(stock) == STOCK[name][1]
    assert all(torch.equal(value, mine[key]) for key, value in stock.items())
    assert {key for key in mine if key not in stock} == {key for key in mine if ".grafts." in key} != set()
    picture = torch.rand(1, 3, 96, 64)
    pairs = list(zip(answers(base, picture), answers(model, picture), strict=True))
    assert pairs
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("name", [n for n, r in zoo.mechanisms().items() if r.cls.__module__.startswith("attngraft.")])
def test_every_mechanism_works_at_every_place(name: str) -> None:
    model = grafted(f"{name}@P3,P4,P5,N3,N4,N5")
    picture = torch.rand(2, 3, 96, 64)
    before = [leaf.clone() for leaf in answers(model, picture)]
    after = answers(wake(model), picture)
    assert all(leaf.isfinite().all() for leaf in after)
    assert torch.equal(before[0], after[0]) == (name == "noop")  # the control that changes nothing


def test_rebuilding_from_the_yaml_gives_the_same_model() -> None:
    model = grafted("mhsa(heads=2)@P5+se@N3")
    again = DetectionModel(copy.deepcopy(model.yaml), verbose=False)
    assert again.state_dict().keys() == model.state_dict().keys()
    again.load_state_dict(wake(model).state_dict())
    picture = torch.rand(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(answers(model, picture), answers(again, picture), strict=True))


@pytest.mark.parametrize(
    "steps",
    [
        ["plain_conv(mode=replace)@8.m.0.m.0.cv2", "se@Conv"],
        ["plain_conv(mode=replace)@8", "se@C3k2"],
        ["psa_block(mode=replace)@10.m.0", "se@PSABlock"],
        ["se(mode=replace)@SPPF", "eca@SPPF"],
        ["bot@P4", "se@P4.bottlenecks"],
    ],
    ids=str,
)
def test_grafts_one_after_another_are_those_that_a_rebuild_joins_at_once(steps: list[str]) -> None:
    """What took a module's place counts as of its class, whether it was there before or came with the same recipe."""
    model = build("yolo11n")
    for step in steps:
        graft_model(model, parse_grafts(step))
    again = rebuilt(wake(model))
    assert again.state_dict().keys() == model.state_dict().keys()
    picture = torch.rand(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(answers(model, picture), answers(again, picture), strict=True))


@pytest.mark.parametrize("together", [True, False], ids=["together", "one after another"])
def test_the_inside_of_what_took_a_place_is_no_place(together: bool) -> None:
    """MHSA has a child ``qkv``, as the attention had before it: of another width."""
    first, second = parse_grafts("mhsa(mode=replace)@10.m.0.attn+se@10.m.0.attn.qkv")
    model = build("yolo11n")
    if not together:
        graft_model(model, [first])
    with pytest.raises(PlaceError, match=r"no module 10\.m\.0\.attn\.qkv.*did you mean 10\.m\.0\.attn"):
        graft_model(model, [first, second] if together else [second])


def test_grafting_draws_no_random_number_from_the_host() -> None:
    torch.manual_seed(7)
    stock = build("yolo11n")
    after_stock = torch.rand(4)
    torch.manual_seed(7)
    description = copy.deepcopy(stock.yaml)
    description[YAML_KEY] = "mhsa@P5+se@P3"
    mine = DetectionModel(description, verbose=False)
    assert torch.equal(torch.rand(4), after_stock)
    assert all(torch.equal(value, mine.state_dict()[key]) for key, value in stock.state_dict().items())


@pytest.mark.parametrize("base", ["yolo11n", "yolo11n-cls"])
def test_batch_norms_of_a_graft_are_set_as_the_host_sets_its_own(base: str) -> None:
    """Both ways to a grafted model agree, and neither touches the settings of the base."""
    model = grafted("bot@P5", base)
    rebuilt = type(model)(copy.deepcopy(model.yaml), verbose=False)
    settings = [
        {path: (m.eps, m.momentum) for path, m in one.named_modules() if isinstance(m, nn.BatchNorm2d)}
        for one in (model, rebuilt)
    ]
    assert settings[0] == settings[1]
    stock = {p: (m.eps, m.momentum) for p, m in build(base).named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert all(settings[0][path] == value for path, value in stock.items() if path in settings[0])


def test_survives_deepcopy_pickle_and_fuse() -> None:
    model = wake(grafted("mhsa@P5+se@P4+eca@P4"))
    picture = torch.rand(1, 3, 64, 96)
    expected = answers(model, picture)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(torch.equal(a, b) for a, b in zip(expected, answers(twin, picture), strict=True))
    fused = answers(copy.deepcopy(model).fuse(verbose=False), picture)
    torch.testing.assert_close(fused[0], expected[0], atol=2e-3, rtol=1e-4)
    assert all("grafts" in str(m.state_dict().keys()) for m in (model, copy.deepcopy(model).fuse(verbose=False)))


def test_a_hook_of_another_tool_does_not_displace_ours() -> None:
    model = wake(grafted("se@P5"))
    picture = torch.rand(1, 3, 64, 64)
    expected = answers(model, picture)[0]
    twin = pickle.loads(pickle.dumps(model))
    handle = twin.model[10].register_forward_hook(lambda *_: None)
    handle.remove()
    assert torch.equal(answers(twin, picture)[0], expected)


def test_every_parameter_is_in_the_hosts_optimizer_and_gets_a_gradient() -> None:
    model = wake(grafted("mhsa@P5+se@P4", base="rtdetr-l"))
    features = model.model[:10]
    features.train()(torch.rand(2, 3, 128, 128)).square().mean().backward()
    graft_parameters = {k: p for k, p in model.named_parameters() if ".grafts." in k}
    assert graft_parameters
    assert all(p.grad is not None for p in graft_parameters.values())


def test_runs_under_torch_compile() -> None:
    model = wake(grafted("mhsa@P5")).eval()
    picture = torch.rand(1, 3, 64, 64)
    expected = answers(model, picture)[0]
    torch.compiler.reset()
    body = torch.compile(model.model[:11], backend="aot_eager", fullgraph=False)
    with torch.no_grad():
        torch.testing.assert_close(body(picture), model.model[:11](picture), atol=1e-4, rtol=1e-4)
    assert torch.equal(answers(model, picture)[0], expected)


def test_runs_under_autocast() -> None:
    model = wake(grafted("mhsa@P5+se@P4")).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(torch.rand(2, 3, 64, 64))
    assert all(leaf.isfinite().all() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))


@pytest.mark.parametrize(("base", "place"), [("yolo11n", "Conv"), ("yolo11n", "C3k2"), ("yolov8n", "Conv"),
                                             ("yolov8n", "C2f")])  # fmt: skip
def test_a_class_name_that_the_head_has_too_grafts_and_runs(base: str, place: str) -> None:
    model = grafted(f"ema@{place}", base)
    carriers = [path for path, part in model.model.named_modules() if hasattr(part, "grafts")]
    assert len(carriers) > 5
    assert not any(path.startswith(f"{len(model.model) - 1}.") for path in carriers)
    out = wake(model).train()(torch.rand(2, 3, 64, 64))
    assert all(leaf.isfinite().all() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))


class TestModes:
    def test_the_papers_form_is_not_the_identity(self) -> None:
        base, picture = build("yolo11n"), torch.rand(1, 3, 64, 64)
        model = copy.deepcopy(base)
        graft_model(model, parse_grafts("se(init=paper)@P5"))
        gate = model.model[10].grafts[0].mechanism
        torch.testing.assert_close(
            model.model[:11].eval()(picture), gate(base.model[:11].eval()(picture)), atol=0, rtol=0
        )
        assert not any(key.endswith("gamma") for key in model.state_dict())

    def test_replace_puts_the_mechanism_in_the_modules_place(self) -> None:
        model = grafted("mhsa(mode=replace)@8.m.0.m.0.cv2")
        assert type(model.model[8].m[0].m[0].cv2).__name__ == "MHSA"
        assert answers(model, torch.rand(1, 3, 64, 64))[0].isfinite().all()

    def test_replace_can_take_a_whole_layer(self) -> None:
        model = grafted("mhsa(mode=replace)@10")
        assert type(model.model[10]).__name__ == "MHSA"
        assert model.model[10].i == 10
        assert answers(model, torch.rand(1, 3, 64, 64))[0].isfinite().all()

    def test_replace_refuses_a_module_that_changes_the_map(self) -> None:
        with pytest.raises(PlaceError, match="takes 128 channels at stride 16 and gives 256 at stride 32"):
            grafted("mhsa(mode=replace)@7")

    @pytest.mark.parametrize(
        ("base", "places"),
        [
            ("yolo11n", ["8.m.0.m.0.cv2", "8.m.0.m.1.cv2"]),
            ("yolov8n", ["8.m.0.cv2"]),
            ("yolo26n", ["8.m.0.m.0.cv2", "8.m.0.m.1.cv2"]),
        ],
    )
    def test_bot_replaces_the_convolutions_of_the_last_stage(self, base: str, places: list[str]) -> None:
        stock = set(build(base).state_dict())
        model = grafted("bot@P5", base)
        found = [path for path, module in model.model.named_modules() if type(module).__name__ == "BoTConv"]
        assert found == places
        gone = stock - set(model.state_dict())
        assert {key.split(".cv2")[0] for key in gone} == {f"model.{path.removesuffix('.cv2')}" for path in places}
        out = model.train()(torch.rand(2, 3, 64, 64))
        assert all(leaf.isfinite().all() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))

    @pytest.mark.parametrize("base", ["rtdetr-resnet50.yaml", "yolov8n-cls-resnet50.yaml"])
    def test_bot_replaces_every_3x3_convolution_of_the_last_stage_of_a_resnet(self, base: str) -> None:
        kind = RTDETRDetectionModel if base.startswith("rtdetr") else ClassificationModel
        model = kind(base, verbose=False)
        graft_model(model, parse_grafts("bot@P5"))
        blocks = {path: part for path, part in model.model.named_modules() if isinstance(part, BoTConv)}
        assert list(blocks) == [f"4.layer.{i}.cv2" for i in range(3)]
        first, second = blocks["4.layer.0.cv2"].eval(), blocks["4.layer.1.cv2"].eval()
        x = torch.rand(1, 512, 6, 4)
        pooled = torch.nn.functional.avg_pool2d(first.mechanism(x), 2)
        torch.testing.assert_close(first(x), first.act(first.norm(pooled)))
        assert first(x).shape == (1, 512, 3, 2)
        torch.testing.assert_close(second(x), second.act(second.norm(second.mechanism(x))))
        assert first(torch.rand(1, 512, 5, 3)).shape == (1, 512, 3, 2)

    @pytest.mark.parametrize(
        ("place", "places"),
        [
            ("22", ["22.m.0.m.0.cv2", "22.m.0.m.1.cv2"]),
            ("N5", ["22.m.0.m.0.cv2", "22.m.0.m.1.cv2"]),
            ("8", ["8.m.0.m.0.cv2", "8.m.0.m.1.cv2"]),
            ("8.m.0.m.1", ["8.m.0.m.1.cv2"]),
        ],
    )
    def test_bot_at_a_layer_changes_that_layer_alone(self, place: str, places: list[str]) -> None:
        stock = set(build("yolo11n").state_dict())
        model = grafted(f"bot@{place}")
        assert [path for path, part in model.model.named_modules() if isinstance(part, BoTConv)] == places
        gone = stock - set(model.state_dict())
        assert {key.split(".cv2")[0] for key in gone} == {f"model.{path.removesuffix('.cv2')}" for path in places}

    def test_bot_says_when_there_is_nothing_to_replace(self) -> None:
        with pytest.raises(PlaceError, match="there are none at stride 32.*use mhsa@P5"):
            grafted("bot@P5", "yolo12n")
        with pytest.raises(PlaceError, match="there are none in layer 10; use mhsa@10 instead"):
            grafted("bot@10")


class TestSequentialLayers:
    """Layers that the host repeats are an nn.Sequential, which would run a child of its own accord."""

    def test_a_repeated_layer_takes_a_graft(self) -> None:
        base = DetectionModel("yolov3.yaml", verbose=False)
        assert isinstance(base.model[10], nn.Sequential)
        model = copy.deepcopy(base)
        graft_model(model, parse_grafts("se@10"))
        x = torch.rand(1, 1024, 4, 4)
        stock, mine = base.model[10].eval(), model.model[10].eval()
        assert torch.equal(stock(x), mine(x))
        wake(model)
        torch.testing.assert_close(mine(x), mine.grafts(stock(x)), atol=0, rtol=0)
        assert not torch.equal(stock(x), mine(x))


def test_several_grafts_at_one_place_run_in_order() -> None:
    model = wake(grafted("se@P5+eca@P5"))
    first, second = model.model[10].grafts
    assert [type(first.mechanism).__name__, type(second.mechanism).__name__] == ["SE", "ECA"]
    model.eval()
    x = torch.rand(1, 256, 4, 4)
    host = model.model[10]
    assert torch.equal(host(x), second(first(type(host).forward(host, x))))


def test_options_that_cannot_work_say_so_at_the_width() -> None:
    with pytest.raises(OptionError, match="divisible by heads, got channels=256 and heads=7"):
        grafted("mhsa(heads=7)@P5")


def test_a_fused_model_is_refused() -> None:
    model = build("yolo11n").fuse(verbose=False)
    with pytest.raises(CheckpointError, match="fused for inference"):
        graft_model(model, parse_grafts("se@P5"))


class TestInnerAttention:
    """Class names as places: mechanisms after the attention inside blocks, or in its place."""

    @pytest.mark.parametrize(
        ("base", "grafts", "paths"),
        [
            ("yolo11n", "mhsa(mode=replace)@C2PSA", ["10.m.0.attn"]),
            ("yolo12n", "mhsa(mode=replace)@6.attention", [f"6.m.{a}.{b}.attn" for a in (0, 1) for b in (0, 1)]),
            ("rtdetr-l", "mhsa(mode=replace)@AIFI", ["11.mechanism"]),
        ],
    )
    def test_a_mechanism_takes_the_place_of_the_attention(self, base: str, grafts: str, paths: list[str]) -> None:
        model = grafted(grafts, base)
        mhsa = zoo.mechanism("mhsa").cls
        assert [path for path, part in model.model.named_modules() if isinstance(part, mhsa)] == paths
        rebuilt = type(model)(copy.deepcopy(model.yaml), verbose=False)
        assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {
            k: v.shape for k, v in model.state_dict().items()
        }
        for size in ((64, 96), (96, 64)):
            assert all(leaf.isfinite().all() for leaf in answers(model, torch.rand(2, 3, *size)))
        layer = model.model[int(paths[0].split(".")[0])].train()
        x = torch.rand(2, {"yolo11n": 256, "yolo12n": 128, "rtdetr-l": 256}[base], 8, 4)
        layer(x).square().sum().backward()
        assert all(p.grad is not None for p in layer.parameters() if p.requires_grad)

    @pytest.mark.parametrize("before", [False, True], ids=["norm after", "norm before"])
    def test_an_encoder_layer_is_the_hosts_with_its_attention_exchanged(self, before: bool) -> None:
        """With the host's own attention as the mechanism it gives the host's numbers, and its gradients."""

        class Same(nn.Module):
            def __init__(self, attention: nn.Module) -> None:
                super().__init__()
                self.attention = attention

            def forward(self, x: Tensor) -> Tensor:
                tokens = x.flatten(2).transpose(1, 2)
                return self.attention(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)

        layer = TransformerEncoderLayer(16, 32, 4, normalize_before=before).double()
        mine = TokenEncoder(Same(layer.ma), layer).double()
        x = torch.rand(2, 16, 3, 5, dtype=torch.float64, requires_grad=True)
        theirs = layer(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
        torch.testing.assert_close(mine(x), theirs, atol=1e-12, rtol=0)
        weight = torch.rand_like(theirs)
        (expected,) = torch.autograd.grad((theirs * weight).sum(), x)
        (actual,) = torch.autograd.grad((mine(x) * weight).sum(), x)
        torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)

    def test_a_graft_after_the_attention_starts_as_the_identity(self) -> None:
        picture = torch.rand(1, 3, 64, 64)
        stock = answers(grafted("se@C2PSA"), picture)
        torch.manual_seed(0)
        assert all(torch.equal(a, b) for a, b in zip(stock, answers(build("yolo11n"), picture), strict=True))

    @pytest.mark.parametrize(
        ("base", "grafts", "message"),
        [
            (
                "yolo11n",
                "ema@C2PSA+mhsa(mode=replace)@C2PSA",
                "cannot replace 10.m.0.attn: the graft after 10.m.0.attn ",
            ),
            ("yolo11n", "ema@C2PSA+mhsa(mode=replace)@10", "cannot replace 10: the graft after 10.m.0.attn would"),
            ("rtdetr-l", "ema@11+mhsa(mode=replace)@AIFI", "cannot replace 11: the graft after 11 would be lost"),
            ("yolo11n", "se@8.m.0.m.1.cv2+bot@P5", "cannot replace 8.m.0.m.1.cv2: the graft after 8.m.0.m.1.cv2 would"),
            (
                "yolo11n",
                "mhsa(mode=replace)@C2PSA+ema(mode=replace)@C2PSA",
                "mhsa stands in 10.m.0.attn by an earlier",
            ),
            (
                "yolo11n",
                "mhsa(mode=replace)@C2PSA+ema(mode=replace)@10",
                "cannot replace 10: mhsa stands in 10.m",
            ),
            ("rtdetr-l", "mhsa(mode=replace)@AIFI+ema(mode=replace)@11", "cannot replace 11: mhsa stands in 11 by"),
            ("yolo11n", "bot@P5+se(mode=replace)@8.m.0.m.1.cv2", "cannot replace 8.m.0.m.1.cv2: bot stands in"),
        ],
    )
    def test_a_replacement_does_not_drop_an_earlier_graft(self, base: str, grafts: str, message: str) -> None:
        with pytest.raises(PlaceError, match=message):
            grafted(grafts, base)

    def test_a_graft_follows_a_replacement(self) -> None:
        kinds = {type(part) for part in grafted("mhsa(mode=replace)@C2PSA+ema@C2PSA").modules()}
        assert {zoo.mechanism(name).cls for name in ("mhsa", "ema")} <= kinds

    def test_attention_on_tokens_elsewhere_says_that_it_stays(self) -> None:
        backbone = [*[[-1, 1, "Conv", [16, 3, 2]]] * 4, [-1, 1, "C3TR", [16]]]
        model = DetectionModel({"nc": 2, "backbone": backbone, "head": [[[4], 1, "Detect", ["nc"]]]}, verbose=False)
        with pytest.raises(PlaceError, match="only that of an encoder layer on a map, such as AIFI"):
            graft_model(model, parse_grafts("mhsa(mode=replace)@4.attention"))


def test_a_mechanism_that_starts_as_the_identity_gets_no_gamma() -> None:
    """A factor of zero on a change of zero would never get a gradient."""
    model = grafted("grn@P5")
    (graft,) = [part for part in model.modules() if isinstance(part, Graft)]
    assert graft.gamma is None
    picture = torch.rand(2, 3, 64, 64)
    stock = build("yolo11n")
    ours = {key: value for key, value in model.state_dict().items() if ".grafts." not in key}
    stock.load_state_dict(ours)
    assert all(torch.equal(a, b) for a, b in zip(answers(stock, picture), answers(model, picture), strict=True))
    leaves = [leaf for leaf in tree_leaves(model.train()(picture)) if isinstance(leaf, Tensor) and leaf.requires_grad]
    sum(leaf.square().mean() for leaf in leaves).backward()
    assert graft.mechanism.scale.grad.abs().sum() > 0


STOCK_RESET = """
from ultralytics import YOLO
model = YOLO("grafted.pt")
for parameter in model.model.parameters():
    parameter.data.fill_(0.7)
assert model.reset_weights() is model
graft = model.model.model[1].grafts[0]
print(graft.mechanism.qkv.weight.std().item(), graft.mechanism.qkv.bias, graft.gamma.abs().max().item())
"""

STOCK_CLASSIFIER = """
from types import SimpleNamespace
from ultralytics import YOLO
from ultralytics.models.yolo.classify.train import ClassificationTrainer
model = YOLO("classifier.pt").model
for parameter in model.parameters():
    parameter.data.fill_(0.7)
trainer = ClassificationTrainer.__new__(ClassificationTrainer)
trainer.args = SimpleNamespace(pretrained=False, dropout=0.0)
trainer.data, trainer.resume = {"nc": 1000, "channels": 3}, False
(graft,) = [layer.grafts[0] for layer in trainer.get_model(model.yaml, model).model if hasattr(layer, "grafts")]
print(graft.mechanism.qkv.weight.std().item(), graft.gamma.abs().max().item())
"""


def test_ultralytics_own_reset_leaves_a_mechanism_as_it_draws_itself(fresh: Any) -> None:
    """Its qkv has a deviation of .01; PyTorch's draw one of .05 or more up to 128 channels."""
    attngraft.graft("attngraft-micro.yaml", "mhsa(heads=2)@1", "grafted.pt")
    deviation, bias, gamma = fresh(STOCK_RESET).split()[-3:]
    assert 0 < float(deviation) < 0.02
    assert (bias, float(gamma)) == ("None", 0)
    attngraft.graft("yolo11n-cls.yaml", "mhsa@P4", "classifier.pt")
    deviation, gamma = fresh(STOCK_CLASSIFIER).split()[-2:]
    assert 0 < float(deviation) < 0.02
    assert float(gamma) == 0


def test_weights_that_are_reset_start_anew_in_grafts_too() -> None:
    """Ultralytics resets the layers of a module after the module: what a mechanism draws for them comes last."""
    model = attngraft.YOLO("attngraft-micro.yaml+mhsa(init=paper,heads=2)@1+tssa(heads=2)@3+eca(init=paper)@P3")
    grafts = [part for part in model.model.modules() if isinstance(part, Graft)]
    keys = list(model.model.state_dict())
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.fill_(0.7)
    assert model.reset_weights() is model
    mhsa, tssa, _ = (graft.mechanism for graft in grafts)
    assert [graft.gamma is None or bool(graft.gamma.eq(0).all()) for graft in grafts] == [True] * 3
    assert [graft.gamma is None for graft in grafts] == [True, False, True]
    assert tssa.temperature.eq(1).all()
    assert mhsa.height_table.std() > 0
    assert mhsa.qkv.weight.std() < 0.02
    assert list(model.model.state_dict()) == keys
    assert all(parameter.requires_grad for parameter in grafts[1].parameters())
