"""The arithmetic of figures and texts equals the shipped MHSA, and the kept arrays are those of the detector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.maps.beacons import ATTENTION, tensors, watched
from tools.attention.arrays import SCENES, SIDE, Arrays, copied, entering, load, scores_without

from attngraft.attention import MHSA
from tools.attention import operator


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return load()


def shipped(arrays: Arrays, position: str = "relative", scale: bool = True) -> MHSA:
    """Return the shipped class with the kept weights; for absolute positions the offsets from the middle."""
    module = MHSA(arrays["qkv"].shape[1], heads=4, position=position, size=SIDE, scale=scale)
    rows = slice(None) if position == "relative" else slice(SIDE // 2 - 1, SIDE // 2 - 1 + SIDE)
    with torch.no_grad():
        module.qkv.weight.copy_(torch.from_numpy(arrays["qkv"])[:, :, None, None])
        if position != "none":
            module.height_table.copy_(torch.from_numpy(arrays["height"][rows]))
            module.width_table.copy_(torch.from_numpy(arrays["width"][rows]))
    return module.double().eval()


def maps(arrays: Arrays) -> torch.Tensor:
    return torch.from_numpy(arrays["x"]).double().unflatten(2, (SIDE, SIDE))


@pytest.mark.parametrize("case", ["relative", "none", "unscaled", "copied"])
def test_rows_are_those_of_the_shipped_class(case: str, arrays: Arrays) -> None:
    module = {
        "relative": lambda: shipped(arrays),
        "none": lambda: shipped(arrays, "none"),
        "unscaled": lambda: shipped(arrays, scale=False),
        "copied": lambda: copied(arrays).double(),
    }[case]()
    options = {"none": {"positions": False}, "unscaled": {"scale": 1.0}}.get(case, {})
    with torch.no_grad():
        expected = module.attention_rows(maps(arrays)).numpy()
    for scene in range(len(SCENES)):
        for head in range(operator.HEADS):
            if case == "copied":
                found = operator.rows_copied(arrays, scene, head)
            else:
                found = operator.rows(arrays, scene, head, **options)  # type: ignore[arg-type]
            np.testing.assert_allclose(found, expected[scene, head], atol=1e-9)


def test_the_mixture_is_the_output_of_the_shipped_class(arrays: Arrays) -> None:
    with torch.no_grad():
        expected = shipped(arrays)(maps(arrays)).flatten(2).numpy()
    for scene in range(len(SCENES)):
        np.testing.assert_allclose(operator.mixture(arrays, scene), expected[scene], atol=1e-9)


def test_the_arrays_are_those_of_the_detector(arrays: Arrays) -> None:
    """Maps to rounding on another machine, weights exactly, and the class scores that pages cannot compute."""
    detector = watched("global")
    attention = detector.network.get_submodule(ATTENTION)
    images = tensors(max(SCENES) + 1)[list(SCENES)]
    x = entering(attention, lambda: detector.predict(images))
    np.testing.assert_allclose(x.flatten(2).numpy(), arrays["x"], atol=1e-3)
    assert np.array_equal(attention.qkv.weight.detach()[:, :, 0, 0].numpy(), arrays["qkv"])
    scene, cell, _ = arrays["object"].T
    for heads, positions in ((15, 1), (15, 0), (7, 1), (0, 1)):
        with torch.no_grad():
            found = scores_without(
                attention, lambda: detector.predict(images).scores[scene, cell].numpy(), heads, positions
            )
        np.testing.assert_allclose(found, arrays["scores"][1 - positions, heads], atol=1e-3)
    assert attention.height_table.abs().sum() > 0  # what was switched off is on again
