"""MobileNetV3-small with any gate: its counts, its layers against torchvision's, its maps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from attngraft.attention import MLCA, SE
from attngraft.export import to_onnx
from attngraft.models import MobileNetV3, Stages, create
from attngraft.models.mobilenet import InvertedResidual
from tests.attention.slow import parameters, randomise


@pytest.mark.parametrize(("gate", "size"), [("none", 408_920), ("mlca", 408_998), ("se", 864_942)])
def test_parameters_of_the_body(gate: str, size: int) -> None:
    """MLCA adds 78, as the paper's models differ by; SE adds C*C/2 + 5*C/4 for each gated width C."""
    net = create("mobilenetv3_small", gate=gate, num_classes=0)
    assert parameters(net) == size
    widths = (16, 96, 240, 240, 120, 144, 288, 576, 576)
    assert sum(c * c // 2 + 5 * c // 4 for c in widths) == 864_942 - 408_920


def test_nine_layers_are_gated_and_only_those() -> None:
    net = MobileNetV3(gate="mlca", num_classes=0)
    layers = [m for m in net.modules() if isinstance(m, InvertedResidual)]
    assert [type(layer.gate) is MLCA for layer in layers] == [True, False, False, *[True] * 8]
    assert all(gate.squeeze.bias is not None for gate in MobileNetV3().modules() if isinstance(gate, SE))


def test_mays_gates_stand_before_the_activation_where_a_layer_widens() -> None:
    """Eight of the nine gated layers widen; in the first, which does not, the authors' gate comes last."""
    may, other = (MobileNetV3(gate="mlca", gate_order=order, num_classes=0).double() for order in (None, "after"))
    other.load_state_dict(randomise(may).state_dict())
    layers = {
        net: [m for m in net.double().eval().modules() if isinstance(m, InvertedResidual)] for net in (may, other)
    }
    gated = [layer for layer in layers[may] if isinstance(layer.gate, MLCA)]
    assert [layer.gate_first for layer in gated] == [False] + [True] * 8
    assert not any(layer.gate_first for layer in layers[other])
    for one, two in zip(layers[may], layers[other], strict=True):
        entry = one.widen if isinstance(one.widen, torch.nn.Sequential) else one.depthwise
        x = torch.randn(1, entry[0].in_channels, 7, 5, dtype=torch.float64)
        with torch.no_grad():
            wide = one.widen(x)
            conv, norm, act = one.depthwise
            before = act(one.gate(norm(conv(wide))))
            after = one.gate(act(norm(conv(wide))))
            for layer, inner in ((one, before if one.gate_first else after), (two, after)):
                y = layer.narrow(inner)
                torch.testing.assert_close(layer(x), x + y if layer.shortcut else y, atol=1e-12, rtol=0)
            if one.gate_first:
                assert (before - after).abs().max() > 1e-6


def test_the_order_is_an_option_and_se_has_mobilenetv3s() -> None:
    def first(**options: str) -> set[bool]:
        net = MobileNetV3(num_classes=0, **options)
        return {m.gate_first for m in net.modules() if isinstance(m, InvertedResidual)}

    assert first() == first(gate="se") == first(gate="mlca", gate_order="after") == {False}
    assert first(gate="se", gate_order="before") == first(gate="eca") == {False, True}
    with pytest.raises(ValueError, match="MobileNetV3 needs gate_order to be .*before.* got 'middle'"):
        MobileNetV3(gate_order="middle")


def test_layers_that_were_pickled_before_the_choice_keep_their_order() -> None:
    layer = next(m for m in MobileNetV3(gate="mlca", num_classes=0).modules() if isinstance(m, InvertedResidual))
    del layer.__dict__["gate_first"]
    assert layer.gate_first is False


def test_without_gates_it_is_torchvisions_without_its_gates() -> None:
    theirs = torchvision.models.mobilenet_v3_small()
    for module in list(theirs.modules()):
        for name, child in module.named_children():
            if isinstance(child, torchvision.ops.SqueezeExcitation):
                setattr(module, name, torch.nn.Identity())
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5  # theirs is a training recipe's
    ours = MobileNetV3(gate="none")
    values = list(randomise(theirs).state_dict().values())
    assert [v.shape for v in values] == [v.shape for v in ours.state_dict().values()]
    ours.double().eval().load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    x = torch.rand(1, 3, 65, 97, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=0)


@pytest.mark.parametrize("size", [(1, 1), (33, 65)])
def test_maps_at_any_size(size: tuple[int, int]) -> None:
    net = MobileNetV3(gate="mlca", num_classes=0).eval()
    assert isinstance(net, Stages)
    for found, channels, stride in zip(
        net.forward_features(torch.rand(1, 3, *size)), net.channels, net.strides, strict=True
    ):
        assert found.shape == (1, channels, *(-(-side // stride) for side in size))


def test_any_mechanism_can_be_the_gate_and_is_fitted_to_the_widths() -> None:
    net = MobileNetV3(gate="ema", gate_options={"groups": 8}, num_classes=3)
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    with pytest.raises(LookupError, match="no mechanism is called 'mlcaa'; did you mean"):
        MobileNetV3(gate="mlcaa")


def test_onnx_gives_the_same_numbers_at_two_sizes(tmp_path: Path) -> None:
    net = MobileNetV3(gate="mlca", num_classes=5).eval()
    exported = to_onnx(net, torch.rand(1, 3, 64, 64), tmp_path / "net.onnx", dynamic=True)
    for size in ((64, 64), (96, 160)):
        x = torch.rand(1, 3, *size)
        with torch.no_grad():
            expected = net(x)
        torch.testing.assert_close(torch.from_numpy(exported(x)[0]), expected, atol=1e-5, rtol=1e-4)
