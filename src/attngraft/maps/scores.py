"""Whether a relevance map is true: deletion, insertion and pointing, always beside maps that know nothing.

Deletion and insertion: RISE, Petsiuk et al., BMVC 2018, arXiv 1806.07421. Energy-based pointing: Score-CAM, Wang et
al., CVPRW 2020, arXiv 1910.01279. Wu et al. (CVPR 2024, arXiv 2404.01415) find that such scores barely tell methods
from noise, so a score is never given alone here: `judge` puts each beside a random map, a Gaussian in the middle of the
image and the filled box, with an interval over images, and says which of them a method does not beat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from attngraft._core.checks import one_of, positive
from attngraft._core.errors import MapError
from attngraft.maps.detections import SAME, Detection, coverage, intersection_over_union
from attngraft.maps.readers import Grid
from attngraft.maps.relevance import Predict, Predictions, smooth

Fill = Literal["blur", "mean"]
Direction = Literal["deletion", "insertion"]
CONTROLS = ("random", "gaussian", "box")
HIGHER_IS_BETTER = {"deletion": False, "insertion": True, "pointing": True, "mask_iou": True}


def score_of(predictions: Predictions, detection: Detection) -> Tensor:
    """Return how sure a detector still is of a detection, for each image: max of score times [IoU > .5], ``(B,)``.

    Args:
        predictions: Raw predictions of changed copies of the detection's image.
        detection: The detection; its class is fixed.
    """
    box = predictions.boxes.new_tensor([detection.box])
    near = torch.stack(
        [intersection_over_union(boxes, box)[:, 0] > SAME for boxes in predictions.boxes_of(detection.label)]
    )
    return (predictions.scores[..., detection.label] * near).amax(1)


@torch.no_grad()
def curve(
    predict: Predict,
    image: Tensor,
    detection: Detection,
    heat: Tensor,
    *,
    direction: Direction = "deletion",
    fill: Fill = "blur",
    steps: int = 20,
    batch: int = 16,
    seed: int = 0,
) -> Tensor:
    """Return the score of a detection as pixels are taken away, or given, in the order of a map.

    Args:
        predict: What gives raw predictions.
        image: The detection's image, ``(3, H, W)``.
        detection: The detection.
        heat: The map, ``(h, w)`` of any resolution; ties are broken at random.
        direction: ``"deletion"`` replaces the most relevant pixels first, ``"insertion"`` starts from the filling and
            restores them first.
        fill: What replaces a pixel: the blurred image, or the mean of the image.
        steps: Into how many equal parts the pixels are cut.
        batch: Changed images in one run.
        seed: Seed of the ties.

    Returns:
        ``(steps + 1,)``, from no pixel changed to all.

    Raises:
        MapError: If the map is empty or not finite.
        OptionError: If there is no such direction or filling.
    """
    one_of("curve", "direction", direction, ("deletion", "insertion"))
    positive("curve", steps=steps, batch=batch)
    order = _order(
        resize(heat.to(image.device), (image.shape[1], image.shape[2])), seed
    )  # place of each pixel in the order
    filling = _filling(image, fill)
    first, then = (image, filling) if direction == "deletion" else (filling, image)
    shares = torch.linspace(0, order.numel(), steps + 1, device=order.device).round()
    scores = []
    for part in torch.split(shares, batch):
        changed = order < part[:, None, None]  # (b, H, W)
        scores.append(score_of(predict(torch.where(changed[:, None], then, first)), detection))
    return torch.cat(scores)


def area_under(curve: Tensor) -> float:
    """Return the area under a curve over the share of pixels, by trapezia.

    Example:
        >>> area_under(torch.tensor([1.0, 0.5, 0.0]))
        0.5
    """
    return float(torch.trapezoid(curve.double(), dx=1 / (len(curve) - 1)))


def pointing(heat: Tensor, detection: Detection, size: Grid) -> float:
    """Return the share of a map's mass inside a detection's box.

    Args:
        heat: The map, ``(h, w)``; what is below zero does not count.
        detection: The detection.
        size: Rows and columns of the image, in pixels.

    Raises:
        MapError: If the map has no mass.
    """
    mass = heat.double().clamp(min=0)
    total = float(mass.sum())
    if not total > 0:
        raise MapError("a map without anything above zero points nowhere; ask another layer or target")
    grid = (int(heat.shape[0]), int(heat.shape[1]))
    return float((mass.cpu() * coverage(detection.box, size, grid)).sum()) / total


def mask_iou(heat: Tensor, mask: Tensor, seed: int = 0) -> float:
    """Return the IoU of an object's mask and as many of the most relevant pixels.

    Args:
        heat: The map, ``(h, w)`` of any resolution.
        mask: The object, ``(H, W)`` of bool.
        seed: Seed of ties.

    Raises:
        MapError: If the mask is empty.
    """
    count = int(mask.sum())
    if not count:
        raise MapError("the mask of an object covers no pixel, so there is nothing to overlap")
    top = _order(resize(heat, (int(mask.shape[0]), int(mask.shape[1]))), seed) < count
    return float((top & mask).sum() / (top | mask).sum())


def control(kind: str, detection: Detection, size: Grid, grid: Grid, *, seed: int = 0) -> Tensor:
    """Return a map that knows nothing of the model, ``grid``.

    Args:
        kind: ``"random"``; ``"gaussian"`` in the middle of the image, a quarter of each side wide; or ``"box"``, which
            is the detection's box, filled.
        detection: The detection.
        size: Rows and columns of the image, in pixels.
        grid: Rows and columns of the map.
        seed: Seed of the random one.
    """
    one_of("control", "kind", kind, CONTROLS)
    if kind == "random":
        return torch.rand(grid, generator=torch.Generator().manual_seed(seed))
    if kind == "box":
        return coverage(detection.box, size, grid).float()
    rows, columns = (((torch.arange(n) + 0.5) / n - 0.5) / 0.25 for n in grid)
    return torch.exp(-(rows[:, None] ** 2 + columns**2) / 2)


def resize(heat: Tensor, size: Grid) -> Tensor:
    """Return a map at another resolution, ``(H, W)``, bilinearly.

    Raises:
        MapError: If it is no map of two axes, or not finite.
    """
    if heat.dim() != 2 or not heat.numel() or not bool(heat.isfinite().all()):
        raise MapError(f"a relevance map is (H, W) of finite numbers, got shape {tuple(heat.shape)}")
    return F.interpolate(heat[None, None].float(), size, mode="bilinear", align_corners=False)[0, 0]


@dataclass(frozen=True)
class Verdict:
    """A method beside one control.

    Attributes:
        metric: Such as ``deletion blur``.
        method: The method.
        control: The control.
        method_mean: Mean score of the method over images.
        control_mean: That of the control.
        difference: How much better the method is; above zero is better, whatever the metric's direction.
        low: Lower end of the 95 % interval of the difference, over images.
        high: Its upper end.
        images: Number of images.
        beats: Whether the whole interval is above zero.
    """

    metric: str
    method: str
    control: str
    method_mean: float
    control_mean: float
    difference: float
    low: float
    high: float
    images: int
    beats: bool

    def __str__(self) -> str:
        beats = "beats" if self.beats else "does not beat"
        return (
            f"{self.metric}: {self.method} ({self.method_mean:.3f}) {beats} the {self.control} map "
            f"({self.control_mean:.3f}); better by {self.difference:+.3f} "
            f"(95 % interval {self.low:+.3f} to {self.high:+.3f} over {self.images} images)"
        )

    def row(self) -> dict[str, Any]:
        """Return the fields, for a table or JSON."""
        return asdict(self)


def judge(
    metric: str, scores: Mapping[str, Sequence[Sequence[float]]], *, controls: Sequence[str] = CONTROLS
) -> list[Verdict]:
    """Compare methods with controls on the same detections, with an interval over images.

    An image counts once, by the mean of its detections, which are no independent witnesses. The interval is Student's t
    of the paired differences, as few images are usual: a percentile bootstrap calls a map better that is not in 24 % of
    trials with two images and 8 % with five, where 2.5 % are promised.

    Args:
        metric: One of `HIGHER_IS_BETTER`, and after a blank what else tells it, such as ``deletion blur``.
        scores: Of each method and control, the scores of each image's detections; images without any are left out.
        controls: Which of them are controls.

    Returns:
        A verdict for each method and control.

    Raises:
        MapError: If there are fewer than two images, or the detections differ between methods.
    """
    one_of("judge", "metric", metric.split()[0], tuple(HIGHER_IS_BETTER))
    sign = 1 if HIGHER_IS_BETTER[metric.split()[0]] else -1
    counts = {tuple(map(len, per_image)) for per_image in scores.values()}
    if len(counts) > 1:
        raise MapError("methods are compared on the same detections, and these were scored on different ones")
    means = {name: torch.tensor([sum(s) / len(s) for s in per_image if s]) for name, per_image in scores.items()}
    images = len(next(iter(means.values())))
    if images < 2:
        raise MapError(f"an interval over images needs two images with detections, got {images}")
    from scipy import stats  # heavy, and only maps that are scored need it

    quantile = float(stats.t.ppf(0.975, images - 1))
    verdicts = []
    for method in means.keys() - set(controls):
        for other in (name for name in controls if name in means):
            better = sign * (means[method] - means[other]).double()
            difference, half = float(better.mean()), quantile * float(better.std()) / images**0.5
            verdicts.append(
                Verdict(
                    metric, method, other, float(means[method].mean()), float(means[other].mean()),
                    difference, difference - half, difference + half, images, difference > half,
                )
            )  # fmt: skip
    return sorted(verdicts, key=lambda v: (v.method, list(controls).index(v.control)))


@torch.no_grad()
def scorecard(
    predict: Predict,
    items: Iterable[tuple[Tensor, Sequence[Detection], Mapping[str, Sequence[Tensor]]]],
    *,
    fills: Sequence[Fill] = ("blur", "mean"),
    steps: int = 20,
    batch: int = 16,
    seed: int = 0,
) -> list[Verdict]:
    """Score maps of many images by deletion, insertion and pointing, each beside all controls.

    Args:
        predict: What gives raw predictions.
        items: For each image ``(3, H, W)``: the image, its detections, and of each method a map for each detection.
        fills: What replaces pixels.
        steps: Into how many parts the pixels are cut.
        batch: Changed images in one run.
        seed: Seed of ties and random controls.

    Returns:
        A verdict for each metric, method and control; `Verdict` prints as a sentence.

    Raises:
        MapError: If fewer than two images have a detection, or a map has no mass.
    """
    found: dict[str, dict[str, list[list[float]]]] = {}
    for number, (image, detections, heats) in enumerate(items):
        size = (int(image.shape[1]), int(image.shape[2]))
        grid = next(((int(h.shape[0]), int(h.shape[1])) for of_method in heats.values() for h in of_method), size)
        beside = {
            kind: [control(kind, d, size, grid, seed=seed + 1000 * number + i) for i, d in enumerate(detections)]
            for kind in CONTROLS
        }
        for method, maps in {**heats, **beside}.items():
            for metric, of_one in _metrics(predict, image, fills, steps, batch, seed).items():
                scored = [of_one(heat, detection) for heat, detection in zip(maps, detections, strict=True)]
                found.setdefault(metric, {}).setdefault(method, []).append(scored)
    return [verdict for metric, scored in found.items() for verdict in judge(metric, scored)]


def _metrics(
    predict: Predict, image: Tensor, fills: Sequence[Fill], steps: int, batch: int, seed: int
) -> dict[str, Callable[[Tensor, Detection], float]]:
    """Return each metric as a function of a map and its detection."""

    def along(direction: Direction, fill: Fill) -> Callable[[Tensor, Detection], float]:
        def area(heat: Tensor, detection: Detection) -> float:
            options: dict[str, Any] = {
                "direction": direction,
                "fill": fill,
                "steps": steps,
                "batch": batch,
                "seed": seed,
            }
            return area_under(curve(predict, image, detection, heat, **options))

        return area

    directions: tuple[Direction, ...] = ("deletion", "insertion")
    metrics = {f"{direction} {fill}": along(direction, fill) for direction in directions for fill in fills}
    size = (int(image.shape[1]), int(image.shape[2]))
    return {**metrics, "pointing": lambda heat, detection: pointing(heat, detection, size)}


def _order(heat: Tensor, seed: int) -> Tensor:
    """Return the place of each pixel when a map is sorted from its highest value down, ties at random."""
    shuffle = torch.randperm(heat.numel(), generator=torch.Generator().manual_seed(seed)).to(heat.device)
    ranked = shuffle[heat.flatten()[shuffle].argsort(descending=True, stable=True)]
    order = torch.empty_like(ranked)
    order[ranked] = torch.arange(len(ranked), device=heat.device)
    return order.view(heat.shape)


def _filling(image: Tensor, fill: Fill) -> Tensor:
    one_of("curve", "fill", fill, ("blur", "mean"))
    if fill == "mean":
        return image.mean((1, 2), keepdim=True).expand_as(image)
    return smooth(image[None], max(image.shape[1:]) / 16)[0]
