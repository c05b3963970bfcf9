"""BoTNet against its block's equations (arXiv 2101.11605, the authors' gist), its counts, and what it shares."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attngraft.export import to_onnx
from attngraft.measure import flops, parameters
from attngraft.models import BoTBlock, BoTNet, Stages, create
from tests.attention.slow import randomise
from tests.attention.test_mhsa import reference as slow_attention

SMALL = ("c", "c", "c", "aa")


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """Apply a 1x1 convolution cell by cell."""
    out = x.new_empty(len(x), len(weight), *x.shape[2:])
    for y in range(x.shape[2]):
        for z in range(x.shape[3]):
            out[:, :, y, z] = x[:, :, y, z] @ weight[:, :, 0, 0].T
    return out


def normalised(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        deviation = (norm.running_var[c] + norm.eps) ** 0.5
        out[:, c] = (x[:, c] - norm.running_mean[c]) / deviation * norm.weight[c] + norm.bias[c]
    return out


def pooled(x: Tensor) -> Tensor:
    """Take means of 2x2 cells; at an odd edge, of the cells that are there."""
    B, C, H, W = x.shape
    out = x.new_empty(B, C, (H + 1) // 2, (W + 1) // 2)
    for y in range(0, H, 2):
        for z in range(0, W, 2):
            cells = [x[:, :, i, j] for i in range(y, min(y + 2, H)) for j in range(z, min(z + 2, W))]
            out[:, :, y // 2, z // 2] = sum(cells) / len(cells)  # type: ignore[arg-type]
    return out


def activated(x: Tensor, act: str) -> Tensor:
    return x * (x > 0) if act == "relu" else x / (1 + (-x).exp())


def slow_block(block: BoTBlock, x: Tensor, stride: int, act: str, shortcut_act: bool) -> Tensor:
    y = activated(normalised(pointwise(x, block.conv1.weight), block.bn1), act)
    y = slow_attention(block.conv2.attention, y)  # type: ignore[arg-type, union-attr]
    y = activated(normalised(pooled(y) if stride == 2 else y, block.bn2), act)
    y = normalised(pointwise(y, block.conv3.weight), block.bn3)
    shortcut = x
    if block.downsample is not None:
        conv, norm = block.downsample[0], block.downsample[1]
        shortcut = normalised(pointwise(x[:, :, ::stride, ::stride], conv.weight), norm)  # type: ignore[arg-type]
        shortcut = activated(shortcut, act) if shortcut_act else shortcut
    if block.se is not None:
        mean = torch.stack([channel.flatten(1).sum(1) / channel[0].numel() for channel in y.unbind(1)], 1)  # (B, C)
        hidden = activated(mean @ block.se.squeeze.weight.T + block.se.squeeze.bias, "relu")
        gate = 1 / (1 + (-(hidden @ block.se.excite.weight.T + block.se.excite.bias)).exp())
        y = y * gate[:, :, None, None]
    return activated(y + shortcut, act)


@pytest.mark.parametrize("position", ["relative", "absolute", "none"])
@pytest.mark.parametrize(
    ("in_channels", "stride", "act", "se", "shortcut_act"),
    [
        (12, 2, "silu", False, True),
        (12, 1, "relu", True, True),
        (32, 1, "relu", False, True),
        (32, 2, "relu", False, False),
    ],
)
def test_block_equals_the_papers(
    position: str, in_channels: int, stride: int, act: str, se: bool, shortcut_act: bool
) -> None:
    options = {"stride": stride, "act": act, "shortcut_act": shortcut_act}
    block = BoTBlock(in_channels, 8, size=(5, 3), heads=2, position=position, se=se, **options)  # type: ignore[arg-type]
    randomise(block)
    x = torch.randn(2, in_channels, 5, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(
            block(x.clone()), slow_block(block, x, stride, act, shortcut_act), atol=1e-10, rtol=0
        )


def test_a_block_starts_as_its_shortcut() -> None:
    block = BoTBlock(32, 8, size=(4, 4))
    x = torch.rand(2, 32, 4, 4)
    assert torch.equal(block(x), x)


def count(name: str, image_size: int, **options: object) -> tuple[int, int]:
    """Count the parameters and the multiply-adds of one image; nothing is computed."""
    with torch.device("meta"):
        net = create(name, image_size=image_size, **options)
        return parameters(net), flops(net, torch.empty(1, 3, image_size, image_size)) // 2


@pytest.mark.parametrize(
    ("name", "image_size", "size", "giga_macs"),
    [
        ("resnet50", 224, 25_557_032, 4.09),
        ("botnet50", 224, 20_852_008, 4.02),
        ("botnet50", 1024, 20_903_208, 102.99),
        ("botnet_s1_50", 224, 20_859_176, 5.42),
        ("botnet_t3", 224, 30_500_696, 7.25),
        ("botnet_t6", 320, 47_917_400, 23.32),
        ("botnet_t7", 384, 69_180_824, 45.79),
        ("botnet26t", 256, 12_488_672, 3.30),
        ("botnet50ts", 256, 22_742_688, 5.51),  # fvcore, which counts norms too: 5.54
    ],
)
def test_size_and_work_are_those_of_the_published_models(
    name: str, image_size: int, size: int, giga_macs: float
) -> None:
    counted, macs = count(name, image_size)
    assert counted == size
    assert round(macs / 1e9, 2) == giga_macs


@pytest.mark.parametrize(
    ("name", "table", "text"),
    [
        ("botnet_t3", 33.524, 30.378),
        ("botnet_t7", 75.139, 68.848),
        ("botnet_t6", 53.971, 47.680),
    ],
)
def test_the_papers_own_count_gates_every_block(name: str, table: float, text: float) -> None:
    """It counts the weights of convolutions, gates and classifier, and nothing else."""
    for se, expected in (("all", table), ("conv", text)):
        with torch.device("meta"):
            net = create(name, se=se)
        weights = [p for key, p in net.named_parameters() if p.dim() > 1 and not key.endswith("_table")]
        assert round((sum(w.numel() for w in weights) + net.num_classes) / 1e6, 3) == expected


@pytest.mark.parametrize("size", [(1, 1), (33, 65), (64, 96), (31, 7)])
@pytest.mark.parametrize("last_stride", [1, 2])
def test_pictures_of_any_size(size: tuple[int, int], last_stride: int) -> None:
    net = BoTNet(SMALL, width=8, num_classes=5, image_size=48, last_stride=last_stride)
    randomise(net).float()  # a last norm at zero would hide the attention behind it
    x = torch.rand(1, 3, *size)
    assert net(x).isfinite().all()
    for stage, channels, stride in zip(net.forward_features(x), net.channels, net.strides, strict=True):
        assert stage.shape == (1, channels, *(-(-side // stride) for side in size))


def test_tables_have_the_size_of_the_maps() -> None:
    net = BoTNet(SMALL, width=8, image_size=(97, 64))
    first, second = (block.conv2.attention for block in net.layer4)  # type: ignore[union-attr]
    assert (first.size, second.size) == ((7, 4), (4, 2))


def test_a_net_without_classes_gives_features_and_wastes_no_parameter() -> None:
    net = BoTNet(SMALL, width=8, num_classes=0)
    assert isinstance(net, Stages)
    x = torch.rand(2, 3, 32, 32)
    assert net(x).shape == (2, net.channels[-1])
    net.forward_features(x)[-1].sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": ("c", "c", "c")}, "four words of the letters c and a"),
        ({"blocks": ("c", "c", "c", "ab")}, "four words of the letters c and a"),
        ({"act": "gelu"}, "act to be one of 'relu', 'silu', got 'gelu'"),
        ({"se": "some"}, "se to be one of 'none', 'conv', 'all', got 'some'"),
        ({"stem": "deep"}, "stem to be one of 'plain', 'tiered', got 'deep'"),
        ({"position": "learned"}, "position to be one of"),
        ({"last_stride": 3}, "stride of 1 or 2, got 3"),
        ({"heads": 5}, "channels divisible by heads"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoTNet(**{"blocks": SMALL, "width": 8, **options})  # type: ignore[arg-type]


def test_onnx_gives_the_same_numbers_at_any_size(tmp_path: Path) -> None:
    net = BoTNet(SMALL, width=8, num_classes=5, image_size=48)
    randomise(net).float()
    exported = to_onnx(net, torch.rand(1, 3, 48, 48), tmp_path / "net.onnx", dynamic=True)
    for size in ((48, 48), (33, 80)):
        x = torch.rand(1, 3, *size)
        with torch.no_grad():
            expected = net(x)
        torch.testing.assert_close(torch.from_numpy(exported(x)[0]), expected, atol=1e-4, rtol=1e-4)
