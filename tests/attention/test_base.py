"""What every mechanism inherits."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from attngraft.attention import ECA, SE, info, names


def test_a_rows_values_take_the_names_of_the_record() -> None:
    assert SE.from_row(64) == {}
    assert SE.from_row(64, 8) == {"reduction": 8}
    assert ECA.from_row(64, 5) == {"kernel_size": 5}


def test_a_row_that_is_too_long_says_what_it_takes() -> None:
    with pytest.raises(ValueError, match=r"row of SE takes \[reduction\], got \[64, 8\]; leave the channels out"):
        SE.from_row(64, 64, 8)


def test_names_and_arguments_that_circulate_stand_for_one_mechanism() -> None:
    records = [info(name) for name in names()]
    taken = [name for record in records for name in (record.name, record.cls.__name__, *record.aliases)]
    assert len(taken) == len(set(taken))
    for record in records:
        assert set(record.alias_signatures) <= set(record.aliases)
        blocks = {name for name in record.alias_defaults if name.startswith(("C2", "Bottleneck_"))}
        assert set(record.alias_defaults) - blocks <= {record.cls.__name__, *record.aliases}
        for values in record.alias_defaults.values():
            assert set(values) <= set(record.options), record.name
        for signature in [*record.signatures, *(one for own in record.alias_signatures.values() for one in own)]:
            assert set(signature) <= {"_", "channels", "stride", "head_width", "off", *record.options}, record.name


@pytest.mark.parametrize("name", names())
def test_a_mechanism_is_built_where_and_as_it_is_told(name: str) -> None:
    """As PyTorch's own modules are: nothing is made on another device first, and no number keeps another type."""
    cls = info(name).cls
    options = cls.fit(64)
    module = cls(64, **options, device="meta", dtype=torch.float64)
    tensors = [*module.parameters(), *module.buffers()]
    assert all(tensor.is_meta for tensor in tensors)
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} <= {torch.float64}
    torch.manual_seed(3)
    plain = cls(64, **options)
    torch.manual_seed(3)
    placed = cls(64, **options, device="cpu", dtype=None)
    for one, other in zip(plain.state_dict().values(), placed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert not {"device", "dtype"} & set(inspect.signature(cls).parameters)
    with pytest.raises(TypeError, match="devise"):
        cls(64, devise="cpu")


@pytest.mark.parametrize("layer", [ECA, SE, lambda channels, **_: ECA(channels)], ids=["eca", "se", "lambda"])
def test_timm_takes_a_mechanism_as_its_attn_layer(layer: object) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model("resnet18", block_args={"attn_layer": layer}, num_classes=3).eval()
    assert sum(isinstance(module, (ECA, SE)) for module in net.modules()) == 8
    assert net(torch.rand(1, 3, 64, 96)).shape == (1, 3)


@pytest.mark.parametrize("name", [name for name in names() if "reset_parameters" not in vars(info(name).cls)])
def test_a_mechanism_starts_anew_with_what_it_was_built_with(name: str) -> None:
    """Ultralytics and PyTorch call ``reset_parameters`` of every module that has one."""
    cls = info(name).cls
    options = cls.fit(64)
    torch.manual_seed(3)
    built = cls(64, **options).state_dict()
    module = cls(64, **options)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.7)
    torch.manual_seed(3)
    module.reset_parameters()
    for key, value in module.state_dict().items():
        assert torch.equal(value, built[key]), key


def test_a_layer_of_another_size_is_left_when_the_others_start_anew() -> None:
    module = info("tssa").cls(64)
    module.proj = nn.Conv2d(64, 32, 1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.7)
    module.reset_parameters()
    assert module.temperature.eq(1).all()
    assert module.proj.weight.eq(0.7).all()
