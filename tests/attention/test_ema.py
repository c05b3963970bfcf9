"""EMA against the paper's figure 2 and equations 1-3 (arXiv 2305.13563), written slowly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attngraft.attention import EMA


def randomised(channels: int, groups: int) -> EMA:
    module = EMA(channels, groups=groups).double().requires_grad_(False)
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter))
    return module


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def reference(module: EMA, x: Tensor) -> Tensor:
    n = module.channels // module.groups
    groups = [reference_of_a_group(module, group) for image in x for group in image.split(n)]
    return torch.stack(groups).view(x.shape)


def reference_of_a_group(module: EMA, x: Tensor) -> Tensor:
    """Compute every map of the paper's figure in full, as nested lists [channel][row][column]."""
    n, H, W = x.shape
    cells = [(i, j) for i in range(H) for j in range(W)]
    f, f_bias = module.conv1x1.weight[:, :, 0, 0].tolist(), module.conv1x1.bias.tolist()
    kernel, bias = module.conv3x3.weight.tolist(), module.conv3x3.bias.tolist()
    at = x.tolist()

    def strip_gate(strip: list[list[float]], o: int, place: int) -> float:
        return sigmoid(f_bias[o] + sum(f[o][c] * strip[c][place] for c in range(n)))

    rows = [[sum(at[c][i]) / W for i in range(H)] for c in range(n)]
    columns = [[sum(at[c][i][j] for i in range(H)) / H for j in range(W)] for c in range(n)]
    first, second = [], []
    for o in range(n):
        gated = {(i, j): at[o][i][j] * strip_gate(rows, o, i) * strip_gate(columns, o, j) for i, j in cells}
        mean = sum(gated.values()) / len(cells)
        variance = sum((value - mean) ** 2 for value in gated.values()) / len(cells)
        slope = module.gn.weight[o].item() / math.sqrt(variance + 1e-5)
        first.append({cell: slope * (gated[cell] - mean) + module.gn.bias[o].item() for cell in cells})
        second.append(
            {
                (i, j): bias[o]
                + sum(
                    kernel[o][c][p + 1][q + 1] * at[c][i + p][j + q]
                    for c in range(n)
                    for p in (-1, 0, 1)
                    for q in (-1, 0, 1)
                    if 0 <= i + p < H and 0 <= j + q < W
                )
                for i, j in cells
            }
        )
    first_weight, second_weight = softmax_of_means(first), softmax_of_means(second)
    out = torch.empty_like(x)
    for i, j in cells:
        logit = sum(first_weight[c] * second[c][i, j] + second_weight[c] * first[c][i, j] for c in range(n))
        out[:, i, j] = x[:, i, j] * sigmoid(logit)
    return out


def softmax_of_means(channels: list[dict[tuple[int, int], float]]) -> list[float]:
    powers = [math.exp(sum(channel.values()) / len(channel)) for channel in channels]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("size", [(5, 7), (7, 2), (1, 4), (1, 1)], ids=str)
@pytest.mark.parametrize(("channels", "groups"), [(15, 3), (4, 4), (3, 1)])
def test_equals_the_paper(channels: int, groups: int, size: tuple[int, int]) -> None:
    module = randomised(channels, groups)
    x = torch.randn(2, channels, *size, dtype=torch.float64) + 0.5
    torch.testing.assert_close(module(x), reference(module, x), atol=1e-11, rtol=0)


def test_a_single_cell_of_a_single_group_trains() -> None:
    """PyTorch's own norm layer refuses one value a channel; its limit is the bias."""
    module = EMA(3, groups=1).train()
    assert module(torch.randn(1, 3, 1, 1)).isfinite().all()


def test_the_first_branchs_weights_are_the_same_for_every_image() -> None:
    """The mean of an instance-normalised channel is its bias: the degenerate branch of the paper's module."""
    module = randomised(8, 2)
    x = torch.randn(3, 4, 5, 7, dtype=torch.float64) * 9 + 4
    means = module._normalise(x).mean((2, 3))
    torch.testing.assert_close(means, module.gn.bias.expand_as(means), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("groups", "count"), [(8, 10_368), (32, 672)])
def test_parameter_count_is_the_closed_form(groups: int, count: int) -> None:
    n = 256 // groups
    assert sum(p.numel() for p in EMA(256, groups=groups).parameters()) == count == 10 * n**2 + 4 * n


def test_state_dict_has_the_circulated_classs_keys() -> None:
    names = {"conv1x1": (8, 8, 1, 1), "conv3x3": (8, 8, 3, 3), "gn": (8,)}
    expected = {f"{name}.weight": shape for name, shape in names.items()} | {f"{name}.bias": (8,) for name in names}
    assert {key: tuple(value.shape) for key, value in EMA(64).state_dict().items()} == expected


@pytest.mark.parametrize(("channels", "groups"), [(4, 2), (8, 4), (13, 1), (20, 5), (36, 6), (64, 8), (256, 8)])
def test_fit_leaves_two_channels_a_group_where_it_can(channels: int, groups: int) -> None:
    assert EMA(channels, **EMA.fit(channels)).groups == groups


def test_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"channels=48 and groups=32; groups could be 24 or 48"):
        EMA(48, groups=32)
