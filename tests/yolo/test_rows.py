"""The blog way: rows of a model YAML that name our mechanisms."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ultralytics import YOLO as StockYOLO
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

import attngraft
from attngraft._core.errors import ModelYamlError, OptionError
from attngraft.attention._base import Attention
from attngraft.yolo.rows import GUARD, as_grafts


def with_row(row: list[Any], base: str = "yolo11n.yaml") -> dict[str, Any]:
    """Insert a row after the backbone and shift every later index, as the posts tell their readers to."""
    description = copy.deepcopy(yaml_model_load(base))
    cut = len(description["backbone"])

    def shift(source: int | list[int]) -> int | list[int]:
        if isinstance(source, list):
            return [shift(s) for s in source]  # type: ignore[misc]
        return source + 1 if source >= cut else source

    description["backbone"].append(row)
    description["head"] = [[shift(f), n, m, a] for f, n, m, a in description["head"]]
    # The neck reads the new row where it read the backbone's last layer.
    description["head"] = [
        [[cut if s == cut - 1 else s for s in f] if isinstance(f, list) else f, n, m, a]
        for f, n, m, a in description["head"]
    ]
    return description


@pytest.mark.parametrize("arguments", [[], [14, 14, 4], [1024, 14, 14, 4], [256], [{"heads": 4}]], ids=str)
def test_a_row_builds_with_the_arguments_that_circulate(arguments: list[Any]) -> None:
    model = DetectionModel(with_row([-1, 1, "MHSA", arguments]), verbose=False)
    layer = model.model[11]
    assert type(layer).__name__ == "MHSA"
    assert (layer.channels, layer.heads) == (256, 4)
    assert layer.np == sum(p.numel() for p in layer.parameters()) > 0
    for size in ((64, 64), (96, 160)):
        model.eval()(torch.rand(1, 3, *size))


@pytest.mark.parametrize("row", [["SE", [16]], ["SE", [1024, 16]], ["ECA", []], ["ECA", [256]]], ids=str)
def test_other_mechanisms_build_from_rows(row: list[Any]) -> None:
    layer = DetectionModel(with_row([-1, 1, *row]), verbose=False).model[11]
    assert type(layer).__name__ == row[0]
    assert layer.channels == 256


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("SHSA", [], {"key_dim": 16, "attended_channels": None}),
        ("SHSA", [1024], {"key_dim": 16}),
        ("SHSA", [1024, 16, 64], {"key_dim": 16, "attended_channels": 64}),
        ("SHSA", [16, 55], {"key_dim": 16, "attended_channels": 55}),
        ("AttentionTSSA", [], {"heads": 8}),
        ("AttentionTSSA", [1024, 4, True], {"heads": 4, "qkv_bias": True}),
        ("RFAConv", [], {"kernel_size": 3}),
        ("RFAConv", [1024, 3, 1], {"kernel_size": 3}),
        ("RFAConv", [1024, 1024, 5], {"kernel_size": 5}),
        ("RFCBAMConv", [], {"kernel_size": 3}),
        ("RFCBAMConv", [1024, 5, 1], {"kernel_size": 5}),
        ("SKAttention", [], {"kernel_sizes": (3, 5), "groups": 32}),
        ("SKAttention", [1024, [1, 3, 5, 7], 16, 1, 32], {"kernel_sizes": (1, 3, 5, 7), "groups": 1}),
        ("SKAttention", [[1, 3, 5, 7]], {"kernel_sizes": (1, 3, 5, 7)}),
        ("BAMBlock", [], {"reduction": 16, "dilation": 4}),
        ("BAMBlock", [1024, 8, 2], {"reduction": 8, "dilation": 2}),
        ("CrissCrossAttention", [], {"reduction": 8}),
        ("CrissCrossAttention", [1024], {"reduction": 8}),
        ("HaloAttention", [], {"window": 8, "halo": 3, "heads": 8}),
        ("HaloAttention", [1024, 4, 1], {"window": 4, "halo": 1, "heads": 8}),
        ("HaloAttention", [1024, 4, 1, 64, 4], {"window": 4, "halo": 1, "heads": 4}),
        ("CAFM", [], {"heads": 8, "bias": False}),
        ("CAFM", [1024, 4, True], {"heads": 4, "bias": True}),
        ("MSLA", [], {"heads": 1}),
        ("MSLA", [1024, 8], {"heads": 8}),
        ("CascadedGroupAttention", [], {"key_dim": 16, "heads": 4, "kernel_sizes": (5,)}),
        ("CascadedGroupAttention", [1024, 8, 2], {"key_dim": 8, "heads": 2}),
        ("CascadedGroupAttention", [1024, 16, 4, 4, 14, [7, 5, 3, 3]], {"kernel_sizes": (7, 5, 3, 3), "window": 7}),
        ("LocalWindowAttention", [1024, 16, 4, 4, 14, 5, [5, 5, 5, 3]], {"window": 5, "kernel_sizes": (5, 5, 5, 3)}),
        ("MALA", [], {"heads": 8}),
        ("MALA", [1024, 4], {"heads": 4}),
        ("PolaLinearAttention", [], {"heads": 8}),
        ("PolaLinearAttention", [1024, [20, 20], 4, True], {"heads": 4, "qkv_bias": True}),
    ],
    ids=str,
)
def test_later_mechanisms_build_with_the_arguments_of_their_copied_classes(
    name: str, arguments: list[Any], options: dict[str, Any]
) -> None:
    model = DetectionModel(with_row([-1, 1, name, arguments]), verbose=False)
    layer = model.model[11]
    assert type(layer) is attngraft.info(name).cls
    assert {key: getattr(layer, key) for key in options} == options
    assert torch.isfinite(model.eval()(torch.rand(1, 3, 96, 64))[0]).all()


@pytest.mark.parametrize("name", ["RFAConv", "RFCBAMConv"])
def test_a_stride_that_is_not_built_is_refused(name: str) -> None:
    said = rf"a row of {name} takes \[kernel_size\], got \[128, 3, 2\].*leave the Conv row, and put \[-1, 1, {name}"
    with pytest.raises(OptionError, match=said):
        DetectionModel(with_row([-1, 1, name, [128, 3, 2]]), verbose=False)


def test_a_yaml_file_with_a_row_trains_in_name_only_when_we_are_there(fresh: Any) -> None:
    Path("yolo11n-blog.yaml").write_text(yaml.safe_dump(with_row([-1, 1, "MHSA", [14, 14, 4]])))
    code = (
        "import sys; {} from ultralytics import YOLO; print(type(YOLO('yolo11n-blog.yaml').model.model[11]).__name__)"
    )
    assert fresh(code.format("import attngraft;")).strip().endswith("MHSA")
    with pytest.raises(AssertionError, match="KeyError: 'MHSA'"):
        fresh(code.format(""))


CIRCULATED = """
import copy, sys, torch
from torch import nn
import ultralytics.nn.modules.block as block
from ultralytics.nn import tasks

class MHSA(nn.Module):  # as it stands in pasted copies of block.py: fixed map, transposed position term, no scale
    def __init__(self, n_dims, width=14, height=14, heads=4, pos_emb=True):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Conv2d(n_dims, n_dims, 1) for _ in range(3))
        self.pos = pos_emb
        self.rel_h_weight = nn.Parameter(torch.randn(1, heads, n_dims // heads, 1, height))
        self.rel_w_weight = nn.Parameter(torch.randn(1, heads, n_dims // heads, width, 1))
        self.softmax = nn.Softmax(dim=-1)
    def forward(self, x):
        B, C, W, H = x.shape
        q, k, v = (conv(x).view(B, self.heads, C // self.heads, W * H) for conv in (self.query, self.key, self.value))
        place = (self.rel_h_weight + self.rel_w_weight).view(1, self.heads, C // self.heads, -1)
        weights = self.softmax(q.transpose(2, 3) @ k + place.transpose(2, 3) @ q)
        return (v @ weights.transpose(2, 3)).view(B, C, W, H)

MHSA.__module__, MHSA.__qualname__ = block.__name__, "MHSA"
block.MHSA = tasks.MHSA = MHSA
model = tasks.DetectionModel("yolov8n.yaml", verbose=False)
host = model.model[9]
attention = MHSA(256, 6, 4)
attention.i, attention.f, attention.type, attention.np = 9, -1, "ultralytics.nn.modules.block.MHSA", 0
model.model[9] = attention  # where a pasted YAML has it: a layer of its own
picture = torch.rand(1, 3, 128, 192)
with torch.no_grad():
    torch.save((picture, model.eval()(picture)[0]), "answer.pt")
torch.save({"model": model, "train_args": {"task": "detect"}, "epoch": -1}, "blog.pt")
"""


def test_a_checkpoint_trained_with_the_circulated_class_gives_its_numbers(fresh: Any) -> None:
    fresh(CIRCULATED)
    picture, answer = torch.load("answer.pt")
    model = attngraft.YOLO("blog.pt").model.eval()
    assert type(model.model[9]) is attngraft.info("mhsa").cls
    with torch.no_grad():
        torch.testing.assert_close(model(picture)[0], answer, atol=1e-4, rtol=1e-4)
    model(torch.rand(1, 3, 160, 160))  # a size at which the circulated class crashes


def test_the_guard_row_grafts_in_place_and_is_loud_without_us(fresh: Any) -> None:
    description = copy.deepcopy(yaml_model_load("yolo11n.yaml"))
    description["head"].insert(0, [-1, 1, GUARD, ["mhsa@P5"]])
    Path("yolo11n-guard.yaml").write_text(yaml.safe_dump(description))
    model = attngraft.YOLO("yolo11n-guard.yaml").model
    assert len(model.model) == 24
    assert "model.10.grafts.0.gamma" in model.state_dict()
    with pytest.raises(AssertionError, match="KeyError: 'Attngraft'"):
        fresh("from ultralytics import YOLO; YOLO('yolo11n-guard.yaml')")


def test_rows_that_cannot_be_read_say_what_they_take() -> None:
    with pytest.raises(OptionError, match=r"row of SE takes \[reduction\], got \[8, 3, 5\]"):
        DetectionModel(with_row([-1, 1, "SE", [8, 3, 5]]), verbose=False)
    with pytest.raises(OptionError, match="no option width; there are: reduction"):
        DetectionModel(with_row([-1, 1, "SE", [{"width": 3}]]), verbose=False)
    with pytest.raises(OptionError, match=r"768 looks like a width|a row of SE takes \[reduction\], got \[768, 9, 9\]"):
        DetectionModel(with_row([-1, 1, "SE", [768, 9, 9]]), verbose=False)
    with pytest.raises(OptionError, match="reads one layer"):
        DetectionModel(with_row([[-1, 4], 1, "SE", []]), verbose=False)


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("CoordAtt", "CoordAttention"), ("SEAttention", "SE"), ("ECAAttention", "ECA"), ("GAM_Attention", "GAM"),
        ("LSKBlock", "LSK"), ("NAMAttention", "NAM"), ("BiLevelRoutingAttention", "BRA"), ("DAttention", "DAT"),
        ("iRMB", "IRMB"), ("mhsa", "MHSA"), ("attngraft.CoordAtt", "CoordAttention"),
        ("SE_Block", "SE"), ("ECA_layer", "ECA"), ("EMA_Attention", "EMA"), ("SimAM_module", "SimAM"),
        ("PSAModule", "EPSA"), ("ECA_block", "ECA"), ("AAttn", "AreaAttention"),
    ],
)  # fmt: skip
def test_names_that_circulate_build_the_mechanism(name: str, cls: str) -> None:
    assert type(DetectionModel(with_row([-1, 1, name, [1024]]), verbose=False).model[11]).__name__ == cls


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("sa_layer", 32),
        ("SALayer", 32),
        ("attngraft.sa_layer", 32),
        ("ShuffleAttention", 8),
        ("shuffle_attention", 8),
    ],
)
def test_a_row_is_read_in_the_order_of_the_class_that_it_names(name: str, groups: int) -> None:
    """The official class has (channel, groups), the widely copied one (channel, reduction, G=8)."""
    layer = DetectionModel(with_row([-1, 1, name, [1024, 32]]), verbose=False).model[11]
    assert layer.groups == groups


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("CordAtt", "did you mean CoordAtt"),
        ("C3k3", "did you mean C3k2"),
        ("CA", "did you mean CoordAttention"),
        ("MultiHeadSelfAttention", "did you mean MHSA"),
        ("GlobalAttentionMechanism", "did you mean GAM"),
        ("CBAM_Authentic", "did you mean CBAM"),
        ("Att_LSKA", "did you mean LSKA"),
        ("C2f_SA", "did you mean ShuffleAttention"),
        ("CA_Block", "did you mean CoordAttention"),
        ("SK_Block", "did you mean SelectiveKernel or SKAttention"),
        ("LSKModule", "did you mean LSK or"),
        ("CoorAttention", "did you mean CoordAttention"),
        ("SequentialPolarizedSelfAttention", "it is PolarizedSelfAttention with the option order=sequential"),
        ("PSA_p", "it is PolarizedSelfAttention with the option form=official"),
        ("BiFormerBlock", "attngraft list shows the mechanisms"),
        ("C3CA", "C3 is a block of Ultralytics, and no mechanism is called 'CA'; did you mean CoordAttention"),
        ("Totally", "attngraft list shows the mechanisms"),
        ("C2f_Mine", "C2f is a block of Ultralytics, and no mechanism is called 'Mine'"),
        ("nn.Nothing", "row 11 names nn.Nothing"),
    ],
)
def test_an_unknown_class_is_answered_with_its_row_and_the_nearest(name: str, word: str) -> None:
    description = {**with_row([-1, 1, name, []]), "yaml_file": "mine.yaml"}
    with pytest.raises(ModelYamlError, match=rf"mine\.yaml: row 11 names .*{word}|{word}") as caught:
        DetectionModel(description, verbose=False)
    assert "mine.yaml" in str(caught.value)
    assert "--plugin FILE.py" in str(caught.value)


class TestBlocks:
    """Blocks of the host's with a mechanism inside, as most posts write them."""

    def build(self, name: str, base: str = "yolo11n.yaml", at: int = 4, more: Any = None) -> torch.nn.Module:
        description = copy.deepcopy(yaml_model_load(base))
        row = description["backbone"][at]
        row[2] = name
        row[3] += [more] if more else []
        return DetectionModel(description, verbose=False)

    @pytest.mark.parametrize(("name", "base"), [("C2f_RFAConv", "yolov8n.yaml"), ("C3k2_RFCBAMConv", "yolo11n.yaml")])
    def test_what_copies_put_in_the_place_of_a_convolution_is_refused(self, name: str, base: str) -> None:
        """It was put behind that convolution: another and larger network than that of the post."""
        with pytest.raises(
            OptionError, match=rf"row 4 \({name}\): copies have .* in the place of the last convolution"
        ):
            self.build(name, base)

    @pytest.mark.parametrize(
        ("name", "base", "at", "paths"),
        [
            ("C3k2_EMA", "yolo11n.yaml", 4, ["4.m.0.cv2.grafts.0"]),
            ("C3k2EMA", "yolo11n.yaml", 4, ["4.m.0.cv2.grafts.0"]),
            ("C3k2_MHSA", "yolo11n.yaml", 6, ["6.m.0.m.0.cv2.grafts.0", "6.m.0.m.1.cv2.grafts.0"]),
            ("C2f_CoordAtt", "yolov8n.yaml", 4, ["4.m.0.cv2.grafts.0", "4.m.1.cv2.grafts.0"]),
            ("C3_SE", "yolov5n.yaml", 4, ["4.m.0.cv2.grafts.0", "4.m.1.cv2.grafts.0"]),
            ("ResNetLayer_SE", "rtdetr-resnet50.yaml", 1, [f"1.layer.{i}.cv3.grafts.0" for i in range(3)]),
            ("C2PSA_MHSA", "yolo11n.yaml", 10, ["10.m.0.attn"]),
            ("C2TSSA", "yolo11n.yaml", 10, ["10.m.0.attn"]),
            ("A2C2f_EMA", "yolo12n.yaml", 8, [f"8.m.{a}.{b}.attn" for a in (0, 1) for b in (0, 1)]),
        ],
    )
    def test_the_mechanism_stands_where_the_copied_block_has_it(
        self, name: str, base: str, at: int, paths: list[str]
    ) -> None:
        model = self.build(name, base, at)
        found = [
            path for path, part in model.model.named_modules() if type(part).__module__.startswith("attngraft.att")
        ]
        assert [path for path in found if not any(path.startswith(f"{other}.") for other in found)] == paths
        assert model.model[at].np == sum(p.numel() for p in model.model[at].parameters())
        again = DetectionModel(copy.deepcopy(model.yaml), verbose=False)
        again.load_state_dict(model.state_dict())
        x = torch.rand(1, 3, 64, 96)
        with torch.no_grad():
            torch.testing.assert_close(again.eval()(x)[0], model.eval()(x)[0], atol=0, rtol=0)

    def test_a_bottleneck_adds_what_the_mechanism_gives(self) -> None:
        block = self.build("C2f_SE", "yolov8n.yaml").model[4].eval()
        bottleneck = block.m[0]
        x = torch.rand(1, 32, 6, 4)
        attended = bottleneck.cv2.grafts[0](type(bottleneck.cv2).forward(bottleneck.cv2, bottleneck.cv1(x)))
        torch.testing.assert_close(bottleneck(x), x + attended, atol=0, rtol=0)

    def test_options_are_given_by_name(self) -> None:
        assert self.build("C3k2_SE", more={"reduction": 4}).model[4].m[0].cv2.grafts[0].reduction == 4
        with pytest.raises(OptionError, match="a row of C3k2_SE has no option 'ratio'"):
            self.build("C3k2_SE", more={"ratio": 4})

    @pytest.mark.parametrize(
        ("name", "cls"),
        [("C2BRA", "BRA"), ("C2DA", "DAT"), ("C2Pola", "PolaLinearAttention"),
         ("C2CGA", "CascadedGroupAttention"), ("C2PSA_CGA", "CascadedGroupAttention")],
    )  # fmt: skip
    def test_c2_alone_means_the_block_from_which_the_copied_classes_derive(self, name: str, cls: str) -> None:
        block = self.build(name, at=10).model[10]
        assert (type(block).__name__, type(block.m[0].attn).__name__) == ("C2PSA", cls)

    @pytest.mark.parametrize(
        ("name", "base", "at", "options"),
        [
            ("C2f_ShuffleAttention", "yolov8n.yaml", 4, {"groups": 8}),
            ("C2f_sa_layer", "yolov8n.yaml", 4, {"groups": 16}),  # the official default of 64, fitted to 32 channels
            ("C3k2_DAttention", "yolo11n.yaml", 6, {"heads": 8, "groups": 4, "offset_range": 4.0}),
            ("C2f_SKAttention", "yolov8n.yaml", 4, {"kernel_sizes": (1, 3, 5, 7), "groups": 1, "dilated": False}),
            ("C2f_CBAM", "yolov8n.yaml", 4, {"kernel_size": 7, "norm": "none", "bias": False}),
            ("C2f_SimAM", "yolov8n.yaml", 4, {"correction": 1}),
            ("C2TSSA", "yolo11n.yaml", 10, {"heads": 2}),
            ("C2TSSA", "yolo11s.yaml", 10, {"heads": 4}),
            ("C2PSA_Pola", "yolo11n.yaml", 10, {"heads": 2}),
            ("C2MSLA", "yolo11n.yaml", 10, {"heads": 2}),
            ("C2BRA", "yolo11n.yaml", 10, {"heads": 8, "side_kernel_size": 3}),
            ("C2DA", "yolo11n.yaml", 10, {"heads": 8, "groups": 4, "offset_range": 4.0}),
            ("A2C2f_ShuffleAttention", "yolo12n.yaml", 6, {"groups": 8}),
        ],
    )
    def test_the_mechanism_inside_has_the_defaults_of_the_copied_class(
        self, name: str, base: str, at: int, options: dict[str, Any]
    ) -> None:
        """C2TSSA, C2Pola and C2MSLA give their attention PSABlock's heads, one for 64 channels; C2BRA and C2DA none."""
        inside = [part for part in self.build(name, base, at).model[at].modules() if isinstance(part, Attention)]
        assert inside
        assert all({key: getattr(part, key) for key in options} == options for part in inside)

    @pytest.mark.parametrize("name", ["C2f_MSDA", "C2f_MultiDilatelocalAttention"])
    def test_an_option_in_which_copies_differ_is_ours_with_one_warning(
        self, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert len(self.build(name, "yolov8n.yaml").model[4].m) == 2
        assert len(re.findall(r"copies of \w+ take .* or \[2, 3\] for dilations", caplog.text)) == 1
        built = self.build(name, "yolov8n.yaml", more={"dilations": [2, 3], "heads": 8}).model[4].m[0].cv2.grafts[0]
        assert (built.dilations, built.heads, built.qkv.bias) == ((2, 3), 8, None)

    def test_the_map_size_that_a_copied_block_needs_is_left_out(self) -> None:
        description = copy.deepcopy(yaml_model_load("yolov8n.yaml"))
        description["backbone"][4] = [-1, 6, "C2f_DAttention", [256, [80, 80], True]]
        block = DetectionModel(description, verbose=False).model[4]
        assert [type(bottleneck.cv2.grafts[0]).__name__ for bottleneck in block.m] == ["DAT", "DAT"]
        assert all(bottleneck.add for bottleneck in block.m)

    @pytest.mark.parametrize(
        "values", [[1024, 14, 14, 4], [1024, True, 14, 14, 4], [1024, True, True], [1024, 8]], ids=str
    )
    def test_a_value_that_the_block_does_not_take_is_refused(self, values: list[Any]) -> None:
        description = copy.deepcopy(yaml_model_load("yolov8n.yaml"))
        description["backbone"][8] = [-1, 3, "C2f_MHSA", values]
        said = (
            r"row 8 \(C2f_MHSA\) takes the values of C2f, \[c2, shortcut, g, e\], got .*as in \[1024, \{heads: ...\}\]"
        )
        with pytest.raises(OptionError, match=said):
            DetectionModel(description, verbose=False)

    def test_the_same_place_has_a_name_in_recipes(self) -> None:
        block = self.build("C3k2_EMA").state_dict()
        recipe = attngraft.YOLO("yolo11n.yaml+ema(init=paper)@4.bottlenecks").model.state_dict()
        shorter = {key.replace(".grafts.0.mechanism.", ".grafts.0."): value.shape for key, value in recipe.items()}
        assert shorter == {key: value.shape for key, value in block.items()}

    def test_a_block_of_neither_says_what_to_write(self) -> None:
        with pytest.raises(ModelYamlError, match=r"SPPF has neither bottlenecks nor attention inside; put a row \[-1"):
            self.build("SPPF_SE", at=9)

    def test_a_class_of_the_hosts_own_goes_before(self) -> None:
        assert type(self.build("C2f", "yolov8n.yaml").model[4]).__name__ == "C2f"


def test_a_name_that_the_host_has_keeps_the_hosts_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.nn import tasks

    monkeypatch.setattr(tasks, "SE", torch.nn.Identity, raising=False)
    assert type(DetectionModel(with_row([-1, 1, "SE", []]), verbose=False).model[11]).__name__ == "Identity"
    assert type(DetectionModel(with_row([-1, 1, "attngraft.SE", []]), verbose=False).model[11]).__name__ == "SE"


@pytest.mark.parametrize("family", ["yolo11", "yolov8", "yolov10"])
@pytest.mark.parametrize("task", ["", "-seg"])
@pytest.mark.parametrize("scale", ["n", "s"])
def test_our_yamls_are_found_by_name(family: str, task: str, scale: str) -> None:
    name = f"{family}{scale}-mhsa{task}.yaml"
    model = StockYOLO(name)
    assert model.task == ("segment" if task else "detect")
    assert any(type(m).__name__ == "MHSA" for m in model.model.modules())
    assert model.model.yaml["scale"] == scale
    stock = StockYOLO(f"{family}{scale}{'' if family == 'yolov10' else task}.yaml")
    if not (family == "yolov10" and task):
        assert set(stock.model.state_dict()) < set(model.model.state_dict())


def test_a_users_own_file_may_name_a_base() -> None:
    Path("yolov8n-mine.yaml").write_text("base: yolov8.yaml\ngrafts: se(reduction=4)@P3,P4\nnc: 7\n")
    model = attngraft.YOLO("yolov8n-mine.yaml").model
    assert model.yaml["nc"] == 7
    assert model.model[4].grafts[0].mechanism.reduction == 4


def test_inserting_a_row_loses_what_a_graft_keeps() -> None:
    """The figures of the README: tensors whose key and shape survive, out of 499."""
    stock = DetectionModel("yolo11n.yaml", verbose=False).state_dict()

    def kept(model: torch.nn.Module) -> int:
        return sum(key in stock and stock[key].shape == value.shape for key, value in model.state_dict().items())

    inserted = with_row([-1, 1, "MHSA", []])
    grafted = {**copy.deepcopy(yaml_model_load("yolo11n.yaml")), "attngraft": "mhsa@P5"}
    assert kept(DetectionModel(grafted, verbose=False)) == len(stock) == 499
    assert kept(DetectionModel(inserted, verbose=False)) == 240


def test_what_an_inserted_row_loses_is_said_with_the_graft_that_keeps_it(caplog: pytest.LogCaptureFixture) -> None:
    stock = DetectionModel("yolo11n.yaml", verbose=False)
    inserted = DetectionModel(with_row([-1, 1, "MHSA", []]), verbose=False)
    inserted.load(stock, verbose=False)
    (said,) = [r.getMessage() for r in caplog.records if "pretrained tensors" in r.getMessage()]
    assert "240 of 499 pretrained tensors are found by name" in said
    assert "row 11 (MHSA) has another index" in said
    assert "model=BASE.pt+mhsa@10," in said
    caplog.clear()
    for silent in (copy.deepcopy(yaml_model_load("yolo11n.yaml")), with_row([-1, 1, "nn.Identity", []])):
        DetectionModel(silent, verbose=False).load(stock, verbose=False)
    replaced = copy.deepcopy(yaml_model_load("yolo11n.yaml"))
    replaced["backbone"][-1] = [-1, 1, "MHSA", []]
    DetectionModel(replaced, verbose=False).load(stock, verbose=False)
    assert not [r for r in caplog.records if "pretrained tensors" in r.getMessage()], "no index moved, or none by us"


def test_places_of_several_rows_are_counted_without_them() -> None:
    from ultralytics.nn import tasks

    description = copy.deepcopy(yaml_model_load("yolov8n.yaml"))
    description["head"][-1:] = [
        [15, 1, "EMA", [256]], [-1, 1, "SimAM", []], [18, 1, "EMA", [512]], [[23, 24, 21], 1, "Detect", ["nc"]],
    ]  # fmt: skip
    names, grafts = as_grafts(description, vars(tasks))
    assert names == ["22 (EMA)", "23 (SimAM)", "24 (EMA)"]
    assert grafts == "ema@15+simam@15+ema@18"
    assert attngraft.YOLO(f"yolov8n.yaml+{grafts}").model.yaml["attngraft"]


def test_a_row_is_printed_as_it_was_read(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="ultralytics")
    DetectionModel(with_row([-1, 1, "MHSA", [14, 14, 4]]), verbose=True)
    (line,) = [r.getMessage() for r in caplog.records if "attngraft.MHSA" in r.getMessage()]
    assert line.split("attngraft.MHSA")[1].strip() == "[256, heads=4, size=(14, 14)]"


def test_a_list_of_one_layer_is_that_layer() -> None:
    assert type(DetectionModel(with_row([[10], 1, "SE", []]), verbose=False).model[11]).__name__ == "SE"
