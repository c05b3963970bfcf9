"""Images enlarged in parts: the same as the whole wherever the network's parts see no farther than the overlap."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attngraft._core.errors import OptionError
from attngraft.fit.tasks.tiling import checked, in_tiles, spans
from attngraft.models import HAT
from tests.models.slow import randomised

SIZES = [(40, 36), (33, 51), (7, 90)]


def hat(*, gates: bool) -> HAT:
    """A HAT of windows of 4; its channel attention, which averages over the whole image, may be a constant."""
    model = randomised(HAT(scale=2, channels=12, depths=(2,), heads=2, window=4, squeeze=4, compress=2, conv_scale=0.5))
    assert isinstance(model, HAT)
    for name, parameter in model.named_parameters():
        if not gates and ".gate2.weight" in name:
            parameter.data.zero_()
    return model


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiles_of_windows_are_the_whole(size: tuple[int, int]) -> None:
    model, image = hat(gates=False), torch.rand(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        whole = model(image)
        parts = in_tiles(model, image, scale=2, tile=8, overlap=24)
        torch.testing.assert_close(parts, whole, atol=1e-10, rtol=0)
        assert (in_tiles(model, image, scale=2, tile=8, overlap=0) - whole).abs().max() > 1e-3


def test_what_averages_over_the_image_differs_by_tile_and_a_tile_of_the_image_does_not() -> None:
    model, image = hat(gates=True), torch.rand(1, 3, 40, 36, dtype=torch.float64)
    with torch.no_grad():
        whole = model(image)
        assert (in_tiles(model, image, scale=2, tile=8, overlap=24) - whole).abs().max() > 1e-3
        torch.testing.assert_close(in_tiles(model, image, scale=2, tile=40, overlap=0), whole)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_convolutions_need_the_overlap_that_they_reach(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 12, 3, padding=1), nn.PixelShuffle(2))
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        whole = network(image)
        torch.testing.assert_close(in_tiles(network, image, scale=2, tile=7, overlap=2), whole)
        assert not torch.allclose(in_tiles(network, image, scale=2, tile=7, overlap=1), whole)


def test_every_pixel_is_in_one_tile() -> None:
    for length in range(1, 40):
        for tile in (1, 3, 8, 64):
            found = [pixel for span in spans(length, tile, 5) for pixel in range(span.start, span.stop)]
            assert found == list(range(length))


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (None, 8, r"overlap=8 needs a tile; give tile=256"),
        (10, None, "tile to be a multiple of the network's window, 4, got 10; use 8 or 12"),
        (3, None, "got 3; use 4"),
        (8, 3, "overlap to be a multiple of the network's window, 4, got 3; use 0 or 4"),
        (0, None, "needs tile to be a .*, got 0"),
        (8, -4, "needs overlap to be a .*, got -4"),
        (True, None, "needs tile to be a .*, got True"),
    ],
)
def test_tiles_keep_windows_in_their_places(tile: int | None, overlap: int | None, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        checked(hat(gates=True), tile, overlap)
    assert checked(hat(gates=True), 8, None) == (8, 16)
