"""D-RISE: relevance from random masks alone, slow and without a look inside; the oracle of the quick maps.

Source: Black-box Explanation of Object Detectors via Saliency Maps, Petsiuk et al., CVPR 2021, arXiv 2006.03204. The
    weight of a mask is how well the masked image is still detected: the best product of IoU and class score among the
    raw predictions. The paper compares the whole vector of class scores by its cosine; here the class is fixed.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from attngraft._core.checks import positive
from attngraft.maps.detections import Detection, intersection_over_union
from attngraft.maps.relevance import Predict


@torch.no_grad()
def drise(
    predict: Predict,
    image: Tensor,
    detection: Detection,
    *,
    masks: int = 1000,
    grid: int = 16,
    kept: float = 0.5,
    batch: int = 32,
    seed: int = 0,
) -> Tensor:
    """Return how much each pixel's presence helps a detection, ``(H, W)``.

    Args:
        predict: What gives raw predictions.
        image: ``(3, H, W)``.
        detection: The detection.
        masks: How many random masks; each costs a forward pass.
        grid: Cells of a mask along a side, before it is smoothly enlarged and moved by a part of a cell.
        kept: Probability that a cell of a mask is kept.
        batch: Masked images in one run.
        seed: Seed of the masks.

    Returns:
        The mean weight of the masks that keep a pixel, less the mean of all: above zero where presence helps.
    """
    positive("drise", masks=masks, grid=grid, batch=batch)
    generator = torch.Generator().manual_seed(seed)
    weighted = torch.zeros(image.shape[1:], dtype=torch.float64)
    covered, total = torch.zeros_like(weighted), 0.0
    for start in range(0, masks, batch):
        drawn = _masks(min(batch, masks - start), grid, kept, image, generator)  # (b, H, W)
        predictions = predict(image * drawn[:, None])
        box = predictions.boxes.new_tensor([detection.box])
        overlap = torch.stack(
            [intersection_over_union(boxes, box)[:, 0] for boxes in predictions.boxes_of(detection.label)]
        )
        weight = (predictions.scores[..., detection.label] * overlap).amax(1)  # (b,)
        weighted += (weight[:, None, None] * drawn).sum(0).double().cpu()
        covered += drawn.sum(0).double().cpu()
        total += float(weight.double().sum())
    return weighted / covered.clamp(min=1e-12) - total / masks


def _masks(count: int, grid: int, kept: float, image: Tensor, generator: torch.Generator) -> Tensor:
    """Draw masks: random cells, enlarged bilinearly by one cell too many, cut at a random place of that cell."""
    H, W = image.shape[1:]
    down, right = -(-H // grid), -(-W // grid)
    cells = (torch.rand(count, 1, grid + 1, grid + 1, generator=generator) < kept).float()
    large = F.interpolate(cells, ((grid + 1) * down, (grid + 1) * right), mode="bilinear", align_corners=False)[:, 0]
    tops = torch.randint(down, (count,), generator=generator).tolist()
    lefts = torch.randint(right, (count,), generator=generator).tolist()
    cut = [mask[top : top + H, left : left + W] for mask, top, left in zip(large, tops, lefts, strict=True)]
    return torch.stack(cut).to(image)
