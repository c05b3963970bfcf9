"""MLCA against the paper's figure 3 and the repository's corrected code (EAAI 123, 106442), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from attngraft.attention import MLCA
from attngraft.attention.mlca import _averages


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def adaptive_mean(channel: Tensor, height: int, width: int) -> list[list[float]]:
    """Pool to a size, down or up: the cells of the output overlap where the sizes do not divide each other."""
    H, W = channel.shape
    return [
        [
            channel[i * H // height : -(-(i + 1) * H // height), j * W // width : -(-(j + 1) * W // width)]
            .mean()
            .item()
            for j in range(width)
        ]
        for i in range(height)
    ]


def conv1d(sequence: list[float], weight: Tensor) -> list[float]:
    k = len(weight)
    places = range(len(sequence))
    return [
        sum(weight[t].item() * sequence[p + t - k // 2] for t in range(k) if p + t - k // 2 in places) for p in places
    ]


def reference(module: MLCA, x: Tensor) -> Tensor:
    C, H, W = x.shape[1:]
    s, share = module.local_size, module.local_weight
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        pooled = [adaptive_mean(channel, s, s) for channel in image]
        sequence = [pooled[c][i][j] for i in range(s) for j in range(s) for c in range(C)]  # cell by cell
        local = [sigmoid(v) for v in conv1d(sequence, module.conv_local.weight[0, 0])]
        means = [sum(map(sum, grid)) / s**2 for grid in pooled]
        overall = [sigmoid(v) for v in conv1d(means, module.conv.weight[0, 0])]
        for c in range(C):
            gate = [[share * local[(i * s + j) * C + c] + (1 - share) * overall[c] for j in range(s)] for i in range(s)]
            full = adaptive_mean(torch.tensor(gate, dtype=x.dtype), H, W)
            out[b, c] = image[c] * torch.tensor(full, dtype=x.dtype)
    return out


@pytest.mark.parametrize("size", [(5, 5), (10, 15), (13, 7), (8, 10), (3, 1), (1, 1)], ids=str)
@pytest.mark.parametrize(("channels", "options"), [(7, {}), (3, {"gamma": 1, "offset": 3, "local_weight": 0.25})])
def test_equals_the_repository(channels: int, options: dict[str, int], size: tuple[int, int]) -> None:
    module = MLCA(channels, **options).double().requires_grad_(False)
    module.conv.weight.normal_()
    module.conv_local.weight.normal_()
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("local_size", [1, 3])
def test_takes_other_grids(local_size: int) -> None:
    module = MLCA(4, local_size=local_size).double()
    for size in ((6, 9), (5, 7)):
        x = torch.randn(1, 4, *size, dtype=torch.float64)
        torch.testing.assert_close(module(x), reference(module, x), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("outputs", "inputs"), [(5, 5), (5, 20), (5, 13), (5, 3), (5, 1), (13, 5), (3, 5), (1, 5)])
def test_the_matrices_are_adaptive_pooling(outputs: int, inputs: int) -> None:
    x = torch.randn(2, 3, inputs, dtype=torch.float64)
    pooled = x @ _averages(outputs, inputs, x).t()
    torch.testing.assert_close(pooled, F.adaptive_avg_pool1d(x, outputs), atol=1e-14, rtol=0)


def test_gate_is_a_fraction_and_stays_in_its_image() -> None:
    """An early published line mixed the gates of a batch's images."""
    module = MLCA(6).double()
    x = torch.randn(3, 6, 7, 9, dtype=torch.float64)
    gate = module(x) / x
    assert gate.gt(0).all()
    assert gate.lt(1).all()
    torch.testing.assert_close(module(x), torch.cat([module(image[None]) for image in x]), atol=1e-14, rtol=0)


@pytest.mark.parametrize(
    ("channels", "kernel_size"), [(16, 3), (64, 3), (120, 3), (128, 5), (256, 5), (1024, 5), (2048, 7)]
)
def test_parameter_count_is_the_closed_form(channels: int, kernel_size: int) -> None:
    assert sum(p.numel() for p in MLCA(channels).parameters()) == 2 * kernel_size


@pytest.mark.parametrize("size", [(20, 20), (20, 13), (13, 13)], ids=str)
def test_cost_formula_holds_on_and_off_the_grid(size: tuple[int, int]) -> None:
    module = MLCA(8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.randn(1, 8, *size))
    assert module.macs(*size) == counter.get_total_flops() // 2


def test_state_dict_has_the_circulated_classs_keys() -> None:
    assert {key: tuple(value.shape) for key, value in MLCA(64).state_dict().items()} == {
        "conv.weight": (1, 1, 3),
        "conv_local.weight": (1, 1, 3),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local_weight": 1.5}, r"local_weight from 0 .* to 1 .*got 1\.5"),
        ({"local_size": 0}, "local_size to be a positive integer, got 0"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLCA(64, **options)  # type: ignore[arg-type]
