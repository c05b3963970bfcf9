"""D-RISE finds the pixels that a transparent detector looks at."""

from __future__ import annotations

import torch
from torch import Tensor

from attngraft import maps
from attngraft.maps import Detection, Predictions


def test_finds_the_pixels_that_count() -> None:
    def predict(images: Tensor) -> Predictions:
        sure = images[:, :, 3:7, 20:26].mean((1, 2, 3))
        boxes = images.new_tensor([[0, 0, 8, 8.0]]).expand(len(images), 1, 4)
        return Predictions(boxes, sure[:, None, None])

    image = torch.ones(3, 24, 32)
    heat = maps.drise(predict, image, Detection(0, 0, 0, 1.0, (0, 0, 8, 8), (4, 4)), masks=500, grid=8)
    assert heat.shape == (24, 32)
    row, column = divmod(int(heat.argmax()), 32)
    assert 2 <= row <= 8
    assert 18 <= column <= 27
    assert heat[3:7, 20:26].mean() > 5 * heat[12:, :12].abs().mean()


def test_masks_keep_what_they_say() -> None:
    seen: list[Tensor] = []

    def predict(images: Tensor) -> Predictions:
        seen.append(images)
        return Predictions(torch.zeros(len(images), 1, 4), torch.ones(len(images), 1, 1))

    detection = Detection(0, 0, 0, 1.0, (0, 0, 1, 1), (0, 0))
    maps.drise(predict, torch.ones(1, 17, 9), detection, masks=300, grid=5, kept=0.25, batch=64)
    masks = torch.cat(seen)
    assert masks.shape == (300, 1, 17, 9)
    assert abs(float(masks.mean()) - 0.25) < 0.02
    assert masks.min() >= 0
    assert masks.max() <= 1
