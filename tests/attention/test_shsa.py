"""SHSA against the paper's equations (arXiv 2401.16456) on a state of the authors' module, written slowly."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from attngraft._core.errors import CheckpointError
from attngraft.attention import SHSA
from attngraft.attention.shsa import from_official
from tests.attention.slow import assert_same, group_norm, norm_shapes, normed, official, parameters

C, KEY, PART = 7, 3, 2
SHAPES = {
    "pre_norm.weight": (PART,), "pre_norm.bias": (PART,),
    "qkv.c.weight": (2 * KEY + PART, PART, 1, 1), **norm_shapes("qkv.bn", 2 * KEY + PART),
    "proj.1.c.weight": (C, C, 1, 1), **norm_shapes("proj.1.bn", C),
}  # fmt: skip


def reference(x: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Equations 2 and 3: one head over the first channels, then a projection of all."""
    H, W = x.shape[2:]
    first = group_norm(x[:, :PART], 1, state["pre_norm.weight"], state["pre_norm.bias"])
    qkv = normed(torch.einsum("oc,bchw->bohw", state["qkv.c.weight"][..., 0, 0], first), state, "qkv.bn")
    cells = [(i, j) for i in range(H) for j in range(W)]
    mixed = []
    for image in qkv:
        q, k, v = (
            [image[part, i, j] for i, j in cells] for part in (slice(KEY), slice(KEY, 2 * KEY), slice(2 * KEY, None))
        )
        for one in q:
            weights = torch.stack([(one @ other / KEY**0.5).exp() for other in k])
            mixed.append(sum(w / weights.sum() * value for w, value in zip(weights, v, strict=True)))
    attended = torch.stack(mixed).view(len(x), H, W, PART).permute(0, 3, 1, 2)
    both = torch.cat((attended, x[:, PART:]), 1).clamp(min=0)
    return normed(torch.einsum("oc,bchw->bohw", state["proj.1.c.weight"][..., 0, 0], both), state, "proj.1.bn")


@pytest.mark.parametrize(("batch", "size"), [(1, (5, 3)), (3, (2, 7)), (1, (1, 1))])
def test_equals_the_paper(batch: int, size: tuple[int, int]) -> None:
    module = SHSA(C, key_dim=KEY, attended_channels=PART)
    x = torch.randn(batch, C, *size, dtype=torch.float64)
    assert_same(module, reference, official(SHAPES), x, from_official)


def test_parameter_count_is_the_authors() -> None:
    part, key = 64, 16
    assert parameters(SHSA(256)) == 2 * part + (2 * key + part) * (part + 2) + 256 * 258 == 72_512


def test_zero_init_starts_at_nothing() -> None:
    assert not SHSA(16, zero_init=True)(torch.randn(2, 16, 3, 5)).any()


def test_another_state_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"authors' SHSA has no tensor stem\.weight; it has pre_norm, qkv\.c"):
        from_official({"stem.weight": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"has qkv\.c, and this one lacks it"):
        from_official({"pre_norm.weight": torch.ones(1)})


def test_more_channels_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="SHSA needs attended_channels of at most channels=16, got 17; .* about 4"):
        SHSA(16, attended_channels=17)
