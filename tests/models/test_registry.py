"""The table of models: names, tasks, options."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from attngraft._core.errors import OptionError
from attngraft.models import BoTNet, create, models, names, record
from attngraft.models._registry import _TABLE, model


def test_every_model_has_a_name_of_its_own_and_a_sentence() -> None:
    for name, found in models().items():
        assert found.name == name
        assert found.about.endswith("."), name


def test_names_are_sorted_and_of_one_task() -> None:
    assert names() == sorted(names())
    assert "botnet50" in names("classify")
    assert "fasterrcnn_botnet50" not in names("classify")


def test_a_record_knows_the_options_of_its_class() -> None:
    assert {"image_size", "num_classes", "position"} <= record("botnet_t3").options


def test_create_passes_options_on() -> None:
    net = create("botnet_t3", width=8, num_classes=3, position="none", act="relu")
    assert isinstance(net, BoTNet)
    assert net.num_classes == 3
    assert not any(name.endswith("_table") for name, _ in net.named_parameters())


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    with pytest.raises(LookupError, match="no model is called 'botnet_50'; did you mean .*botnet50"):
        create("botnet_50")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("botnet50", {"widht": 8}, "botnet50 has no option 'widht'; did you mean width?"),
        ("botnet50", {"num_class": 3}, "botnet50 has no option 'num_class'; did you mean num_classes?"),
        ("hat_s", {"num_classes": 3}, "hat_s has no option 'num_classes'; there are: border, channels"),
        ("flatten_swin_tiny", {"depth": 3}, "no option 'depth'; did you mean depths?"),
        ("maskrcnn_botnet50", {"num_class": 3}, "R-CNN has no option 'num_class'; did you mean num_classes?"),
        ("fasterrcnn_botnet50", {"box_score_tresh": 3}, "no option 'box_score_tresh'; did you mean box_score_thresh"),
        ("dilateformer_tiny", {"num_classes": -3}, "num_classes to be an integer of 0 or more, got -3"),
        ("mobilenetv3_small", {"num_classes": 2.5}, "num_classes to be an integer of 0 or more, got 2.5"),
    ],
)
def test_an_option_that_cannot_be_is_met_with_the_nearest(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        create(name, **options)


def test_a_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_TABLE, "mine", record("botnet50"))
    with pytest.raises(ValueError, match="'mine' is taken"):

        @model("classify")
        def mine() -> nn.Module:
            """Build nothing."""
            raise AssertionError
