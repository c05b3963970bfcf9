"""EPSA against the paper's equations (arXiv 2105.14447), written slowly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attngraft.attention import EPSA
from tests.attention.slow import conv2d, parameters, randomise, sigmoid


def reference(x: Tensor, module: EPSA) -> Tensor:
    branches = [conv2d(x, conv.weight) for conv in module.convs]
    gates = []
    for branch in branches:
        means = branch.flatten(2).sum(2) / branch[0, 0].numel()  # (B, C / 4)
        hidden = (means @ module.mlp.squeeze.weight.T + module.mlp.squeeze.bias).clamp(min=0)
        gates.append(sigmoid(hidden @ module.mlp.excite.weight.T + module.mlp.excite.bias).exp())
    total = sum(gates)
    weighted = [branch * (gate / total)[:, :, None, None] for branch, gate in zip(branches, gates, strict=True)]
    return torch.cat(weighted, 1)


def test_equals_the_paper() -> None:
    module = randomise(EPSA(24, groups=(1, 2, 3, 6), reduction=2))
    x = torch.randn(2, 24, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(x, module), atol=1e-12, rtol=0)


def test_reverse_stacks_the_branches_as_the_reference_does() -> None:
    module = randomise(EPSA(64))
    x = torch.randn(2, 64, 5, 3, dtype=torch.float64)
    straight = module(x).chunk(4, 1)
    module.reverse = True
    assert torch.equal(module(x), torch.cat(straight[::-1], 1))


def test_parameter_count_is_the_authors() -> None:
    C, n = 256, 4
    taps = sum(C * C // 4 * k**2 // g for k, g in zip((3, 5, 7, 9), (1, 4, 8, 16), strict=True))
    assert parameters(EPSA(C)) == taps + 2 * (C // 4) * n + n + C // 4 == 433_732


@pytest.mark.parametrize(("channels", "groups"), [(32, (1, 4, 8, 8)), (48, (1, 4, 6, 12)), (4, (1, 1, 1, 1))])
def test_fit_takes_the_most_groups_the_width_allows(channels: int, groups: tuple[int, ...]) -> None:
    assert EPSA.fit(channels)["groups"] == groups
    assert EPSA.fit(256) == {}


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="EPSA needs channels to be a multiple of 4, got 6; use 4 or 8"):
        EPSA(6)
    with pytest.raises(ValueError, match="channels=8 and groups=16; groups could be 8"):
        EPSA(32)
    with pytest.raises(ValueError, match=r"one number of groups for each of its 4 kernels, got \(1, 4\)"):
        EPSA(64, groups=(1, 4))
    with pytest.raises(ValueError, match=r"EPSA \(each branch\) needs reduction of at most 8 .* got 16"):
        EPSA(32, groups=(1, 1, 1, 1))
