"""Arguments of rows as they circulate: options, or widths that are left out."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from attngraft import info
from attngraft._core.errors import OptionError
from attngraft.yolo.arguments import Widths, read_row

C = 256
"""Channels of the map; 1024 before scaling."""

READ: list[tuple[str, list[Any], dict[str, Any]]] = [
    # no options, or the map's own width, once or twice, scaled or not, or None
    ("se", [], {}),
    ("se", [256], {}),
    ("se", [1024], {}),
    ("se", [1024, 1024], {}),
    ("se", [256, 1024], {}),
    ("se", [None], {}),
    # options alone
    ("se", [16], {"reduction": 16}),
    ("se", [32], {"reduction": 32}),
    ("eca", [5], {"kernel_size": 5}),
    ("simam", [1e-3], {"e_lambda": 1e-3}),
    ("simam", ["1e-4"], {"e_lambda": 1e-4}),
    ("mhsa", [14, 14, 8], {"heads": 8, "size": (14, 14)}),
    ("mhsa", [20, 12], {"size": (20, 12)}),
    ("shuffle_attention", [8], {"groups": 8}),
    ("mlca", [7], {"local_size": 7}),
    # a width, then options, in the order of the copied classes
    ("se", [1024, 8], {"reduction": 8}),
    ("se", [1024, 1024, 8], {"reduction": 8}),
    ("cbam", [1024, 7], {"kernel_size": 7}),
    ("cbam", [1024, 3], {"kernel_size": 3}),
    ("cbam", [1024, 1024, 8, 7], {"reduction": 8, "kernel_size": 7}),
    ("cbam", [1024, 8], {"reduction": 8}),
    ("cbam", [7], {"kernel_size": 7}),
    ("cbam", [8, 7], {"reduction": 8, "kernel_size": 7}),
    ("gam", [1024, 1024, False, 2], {"reduction": 2}),
    ("ema", [1024, None, 32], {"groups": 32}),
    ("ela", [1024, 7], {"variant": "B"}),
    ("ela", [1024, 5], {"variant": "T", "norm_groups": 16}),
    ("ela", ["S"], {"variant": "S"}),
    ("shuffle_attention", [1024, 16, 8], {"groups": 8}),
    ("mhsa", [1024, 14, 14, 8], {"heads": 8, "size": (14, 14)}),
    ("mhsa", [1024, 1024, 8], {"heads": 8}),
    ("mhsa", [1024, 14, 14, 4, False], {"heads": 4, "size": (14, 14), "position": "none"}),
    ("bra", [1024, 8, 7], {"heads": 8, "regions": 7}),
    ("caa", [1024, 11, 11], {"kernel_size": 11}),
    ("msda", [1024, 8, True, None, 0.0, 0.0, 3, [1, 2, 3]],
     {"heads": 8, "qkv_bias": True, "kernel_size": 3, "dilations": [1, 2, 3]}),
    ("dat", [1024, [20, 20], 8, 4], {"heads": 8, "groups": 4}),
    ("tssa", [1024, 8, True], {"heads": 8, "qkv_bias": True}),
    ("tssa", [1024, 8, 1], {"heads": 8, "qkv_bias": True}),
    ("mhsa", [1024, None, None, 8], {"heads": 8}),
    ("mhsa", [1024, 14, 14, None, False], {"heads": 4, "size": (14, 14), "position": "none"}),
    ("mhsa", [8], {"heads": 8}),
    ("mhsa", [14], {"size": (14, 14)}),
    ("bra", [1024, 8, 7, 256, None], {"heads": 8, "regions": 7}),
    # the width of another map: left out
    ("simam", [512], {}),
    ("se", [512], {}),
    ("se", [64], {}),
    ("cbam", [192], {}),
    ("cbam", [512, 7], {"kernel_size": 7}),
    ("cbam", [512, 512, 16, 7], {"reduction": 16, "kernel_size": 7}),
    ("ema", [512], {}),
    ("mhsa", [512], {}),
    ("mhsa", [2048, 14, 14, 8], {"heads": 8, "size": (14, 14)}),
    ("eca", [64], {}),
    ("shuffle_attention", [512, 16, 8], {"groups": 8}),
    ("shuffle_attention", [1024, 1024, 8], {"groups": 8}),  # the second width stands where the copy has a reduction
    ("shuffle_attention", [1024, 512, 8], {"groups": 8}),
    ("gam", [1024, 1024, 0, 4], {"reduction": 4}),
    ("triplet", [False], {}),
    ("halo", [1024, 1024, 8, 3], {"window": 8, "halo": 3}),
    ("focused_linear", [[20, 20], 8], {"map_size": [20, 20], "heads": 8}),
    ("focused_linear", [1024, [14, 14], 8, True], {"map_size": [14, 14], "heads": 8, "qkv_bias": True}),
    ("focused_linear", [1024, 8], {"heads": 8}),
    ("epsa", [1024, 1024], {}),
    ("nam", [1024, 512], {}),
    # by name
    ("cbam", [1024, {"kernel_size": 3}], {"kernel_size": 3}),
    ("cbam", [{"reduction": 64}], {"reduction": 64}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "options"), READ, ids=str)
def test_a_row_means(name: str, values: list[Any], options: dict[str, Any]) -> None:
    assert read_row(info(name), Widths(C, 0.25, 1024), values) == options


@pytest.mark.parametrize(
    ("called", "values", "options"),
    [
        ("sa_layer", [1024, 32], {"groups": 32}),
        ("SALayer", [1024, 16], {"groups": 16}),
        ("SA_Layer", [1024, 8], {"groups": 8}),
        ("sa_layer", [1024, 64], {"groups": 64}),
        ("sa_layer", [16], {"groups": 16}),
        ("sa_layer", [512, 32], {"groups": 32}),
        ("sa_layer", [1024, {"groups": 4}], {"groups": 4}),
        ("sa_layer", [1024], {}),
        ("ShuffleAttention", [1024, 32], {"groups": 8}),  # its reduction, which does nothing, and its own G
        ("ShuffleAttention", [256, 8], {"groups": 8}),
        ("ShuffleAttention", [1024], {"groups": 8}),
        ("ShuffleAttention", [1024, 32, None], {"groups": 8}),
        ("ShuffleAttention", [1024, {"groups": 4}], {"groups": 4}),
        ("ShuffleAttention", [], {}),
        ("ShuffleAttention", [16], {"groups": 16}),
        ("ShuffleAttention", [1024, 32, 16], {"groups": 16}),
        ("shuffle_attention", [1024, 32, 16], {"groups": 16}),
    ],
    ids=str,
)
def test_a_class_is_read_by_its_own_arguments(called: str, values: list[Any], options: dict[str, Any]) -> None:
    """The official sa_layer takes (channel, groups), and the copied ShuffleAttention (channel, reduction, G)."""
    assert read_row(info("shuffle_attention"), Widths(C, 0.25, 1024), values, called) == options


@pytest.mark.parametrize(
    ("name", "values", "options"),
    [
        ("DAttention", [1024, [20, 20]], {"offset_range": 4.0}),
        ("DAttention", [[20, 20], 8, 4], {"heads": 8, "groups": 4, "offset_range": 4.0}),
        ("DAttention", [1024, [20, 20], 8, 4, 0.0, 0.0, 1, 2], {"heads": 8, "groups": 4, "offset_range": 2}),
        ("DAttention", [], {}),
        ("nchwBRA", [1024, 8, 7], {"heads": 8, "regions": 7, "side_kernel_size": 3}),
        ("BiLevelRoutingAttention", [1024, 8], {"heads": 8, "side_kernel_size": 3}),
        ("BiLevelRoutingAttention", [8, 7], {"heads": 8, "regions": 7, "side_kernel_size": 3}),
        ("BRA", [8, 7], {"heads": 8, "regions": 7}),
        ("SKAttention", [[3, 5]], {"kernel_sizes": [3, 5], "groups": 1, "dilated": False}),
        ("SelectiveKernel", [[3, 5]], {"kernel_sizes": [3, 5]}),
        ("SKAttention", [1024, [3, 5]], {"kernel_sizes": [3, 5], "groups": 1, "dilated": False}),
        ("SKAttention", [1024], {"kernel_sizes": (1, 3, 5, 7), "groups": 1, "dilated": False}),
        ("MultiDilatelocalAttention", [1024, 6, {"dilations": [1, 3]}],
         {"heads": 6, "qkv_bias": False, "dilations": [1, 3]}),
        ("PolaLinearAttention", [1024, [20, 20]], {"heads": 8}),
        ("FocusedLinearAttention", [1024, [20, 20]], {"map_size": [20, 20], "heads": 8}),
        ("eca_layer", [1024], {"kernel_size": 3}),
        ("ECALayer", [1024], {"kernel_size": 3}),
        ("ECAAttention", [512], {"kernel_size": 3}),
        ("ECAAttention", [1024, 5], {"kernel_size": 5}),
        ("ECA", [1024], {}),
        ("SimAM", [1024], {"correction": 1}),
        ("SimAM", [], {}),
        ("SCSA", [1024], {"heads": 8}),
        ("CAFM", [1024], {"heads": 4, "form": "code"}),
        ("CAFMAttention", [1024], {"heads": 2, "form": "code"}),
        ("CAFMAttention", [8], {"heads": 8, "form": "code"}),
        ("GAM_Attention", [1024, 1024], {"channel_gate": "none"}),
        ("GAM", [1024, 1024], {}),
        ("GAMAttention", [1024, 1024, False, {"channel_gate": "sigmoid"}], {"channel_gate": "sigmoid"}),
        ("CBAMBlock", [1024, 16, 7], {"reduction": 16, "kernel_size": 7, "bias": False, "norm": "none"}),
        ("CBAMBlock", [1024, {"kernel_size": 7}], {"kernel_size": 7, "bias": False, "norm": "none"}),
        ("BAMBlock", [1024, 8, 2], {"reduction": 8, "dilation": 2}),
        ("NonLocalBlockND", [1024, None, 3], {}),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_copied_row_leaves_out_is_what_its_class_takes(
    name: str, values: list[Any], options: dict[str, Any]
) -> None:
    """What the circulated classes' signatures have, and what their forward leaves out, read for parity.

    DAttention, BiFormer's ops, DilateFormer, PolaFormer, FLatten-PVT, HCANet (CAFM), CAF-YOLO (CAFMAttention), ECANet,
    SimAM and SCSA, their authors' repositories; SKAttention, ECAAttention, CBAMBlock and BAMBlock,
    xmu-xiaoma666/External-Attention-pytorch.
    """
    assert read_row(info(name), Widths(192, 0.1875, 1024), values, name) == options


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        (
            "CBAMBlock",
            [1024],
            r"CBAMBlock take 7 or 49 for kernel_size .*default of CBAM is taken.* \[\.\.\., \{kernel_size: 7\}\]",
        ),
        ("CBAMBlock", [1024, 16], "take 7 or 49 for kernel_size"),
        ("MultiDilatelocalAttention", [1024, 8], r"\[1, 2, 3\] or \[2, 3\] for dilations"),
        ("MultiDilatelocalAttention", [8, False], "for dilations"),
        ("MultiDilateAttention", [1024], "for dilations"),
        ("BAMBlock", [1024, 16], "take 4 or 2 for dilation"),
        ("GAMAttention", [1024, 1024], "none or sigmoid for channel_gate .* group and shuffle their convolutions"),
    ],
)
def test_an_option_in_which_copies_differ_is_ours_with_a_warning(
    name: str, values: list[Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = info(name)
    disputed = [
        key for key in ("kernel_size", "dilations", "dilation", "channel_gate") if re.search(rf"for {key}\b", said)
    ]
    assert not set(disputed) & set(read_row(record, Widths(C, 0.25, 1024), values, name))
    assert re.search(said, caplog.text)
    caplog.clear()
    given = {key: record.options[key].default for key in disputed}
    assert read_row(record, Widths(C, 0.25, 1024), [*values, given], name).items() >= given.items()
    assert read_row(record, Widths(C, 0.25, 1024), [], name) == {}
    assert not caplog.text


@pytest.mark.parametrize(("name", "values"), [("gam", [1024, 1024, True, 4]), ("triplet", [True])])
def test_a_switch_of_a_copied_class_that_is_not_built_is_refused(name: str, values: list[Any]) -> None:
    """GAM's groups its convolutions and shuffles them; TripletAttention's drops the spatial branch."""
    with pytest.raises(OptionError, match="turns on by True there is not built here: write False"):
        read_row(info(name), Widths(C, 0.25, 1024), values)


def test_a_copied_default_that_the_map_does_not_allow_is_left_out() -> None:
    assert read_row(info("shuffle_attention"), Widths(20), [20], "ShuffleAttention") == {}


def test_a_width_that_equals_the_sides_of_its_map_is_left_out_once() -> None:
    """P3 of the n models has 64 channels, and 64 x 64 cells at imgsz 512."""
    read = read_row(info("mhsa"), Widths(64, 0.25, 1024), [64, 64, 64, 4])
    assert read == {"heads": 4, "size": (64, 64)}


@pytest.mark.parametrize("multiple", [0.25, 0.5, 1.0])
def test_sides_are_no_widths_whatever_the_scale(multiple: float) -> None:
    """At scale n the map is as wide as it has cells, and the size of the tables was dropped."""
    widths = Widths(int(256 * multiple), multiple, 1024)
    assert read_row(info("mhsa"), widths, [64, 64, 4]) == {"heads": 4, "size": (64, 64)}
    assert read_row(info("mhsa"), widths, [64, 64]) == {"size": (64, 64)}
    assert read_row(info("mhsa"), widths, [256, 256, 4]) == {"heads": 4}
    assert read_row(info("aifi"), Widths(int(1024 * multiple), multiple, 1024), [1024, 8]) == {
        "hidden": 1024, "heads": 8,
    }  # fmt: skip


def test_what_a_class_does_not_take_is_refused() -> None:
    with pytest.raises(OptionError, match=r"takes \[groups\], got \[1024, 48\]"):
        read_row(info("sa_layer"), Widths(C, 0.25, 1024), [1024, 48], "sa_layer")


def test_a_width_of_another_map_is_reported_and_the_maps_own_is_not(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("ultralytics").propagate = True
    read_row(info("cbam"), Widths(C, 0.25, 1024), [1024, 7])
    assert not caplog.text
    read_row(info("cbam"), Widths(C, 0.25, 1024), [512, 7])
    assert "a row of CBAM names the width 512, and its map has 256 channels; the width is left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("se", [8, 3, 5], r"a row of SE takes \[reduction\], got \[8, 3, 5\] on a map of 256 channels"),
        ("se", [768, 9, 9], "768 looks like a width"),
        ("eca", [4], r"takes \[kernel_size\], got \[4\].*or give options by name, as in \[\{kernel_size: ...\}\]"),
        ("simam", [3], "takes .e_lambda., got .3."),
        ("caa", [1024, 11, 7], "takes .kernel_size."),
        ("lsk", [3], "takes no values"),
        ("bra", [1024, 8, 7, 4], "takes .heads, regions."),  # 4 is an inner width or topk, and no scale
        ("mlca", [1024, 5, 2, 0.5], "takes .local_size, gamma, offset, local_weight."),
        ("mhsa", [14, 14, 4, "none"], "takes .width, height, heads, pos_emb."),
        ("mhsa", [1024, 20, 4], "takes .width, height, heads, pos_emb."),  # a side and heads
        ("se", [{"ratio": 3}], "no option ratio; there are: reduction"),
    ],
)
def test_a_row_that_cannot_be_meant_says_what_it_takes(name: str, values: list[Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_row(info(name), Widths(C, 0.25, 1024), values)


def test_the_0_and_1_of_a_copied_row_are_what_they_say_of_a_switch() -> None:
    assert read_row(info("tssa"), Widths(C, 0.25), [1024, 8, 0])["qkv_bias"] is False
    assert read_row(info("tssa"), Widths(C, 0.25), [1024, 8, 1])["qkv_bias"] is True
    assert type(read_row(info("cafm"), Widths(C, 0.25), [1024, 8, 1])["heads"]) is int
