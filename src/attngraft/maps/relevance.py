"""What one detection rests on: ODAM, gradient times activation, per detection and per target, at any layer.

Source: ODAM: Gradient-based instance-specific visual explanations for object detection, Zhao and Chan, ICLR 2023, arXiv
    2304.06354. The map of a predicted number Y at a layer's activation A is ``relu(sum_c (dY/dA_c) A_c)``, elementwise,
    where Grad-CAM averages the gradient over the cells first. Smoothing of the gradient is optional there and here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import one_of
from attngraft._core.errors import MapError, suggest
from attngraft.attention._precision import at_least_single
from attngraft.maps.gradients import gradients
from attngraft.maps.recording import require_recordable

SIDES = ("left", "top", "right", "bottom")
Quantity = Literal["class", "left", "top", "right", "bottom"]


class Predictions(NamedTuple):
    """What a detector says of each candidate before any is suppressed, with the graph that leads to it.

    Attributes:
        boxes: Left, top, right and bottom in pixels of the input, ``(B, A, 4)``; ``(B, A, K, 4)`` where a candidate has
            a box of its own for each class.
        scores: Scores of the classes from 0 to 1, ``(B, A, K)``.
    """

    boxes: Tensor
    scores: Tensor

    def boxes_of(self, label: int) -> Tensor:
        """Return the candidates' boxes if they are of a class, ``(B, A, 4)``."""
        return self.boxes if self.boxes.dim() == 3 else self.boxes[:, :, label]


Predict = Callable[[Tensor], Predictions]
"""Images ``(B, 3, H, W)`` to predictions. A classifier has one candidate an image, whose box is the image."""


class Target(NamedTuple):
    """One number that a detector predicts.

    Attributes:
        image: Which image of the batch.
        candidate: Which candidate of `Predictions`.
        label: Which class.
        quantity: ``"class"`` for the score of that class, or a side of the box: ``"left"``, ``"top"``, ``"right"``,
            ``"bottom"``.
    """

    image: int
    candidate: int
    label: int
    quantity: Quantity = "class"

    def of(self, predictions: Predictions) -> Tensor:
        """Return the number.

        Raises:
            OptionError: If there is no such quantity.
            MapError: If there is no such image, candidate or class.
        """
        one_of("Target", "quantity", self.quantity, ("class", *SIDES))
        B, A, K = predictions.scores.shape
        if not (0 <= self.image < B and 0 <= self.candidate < A and 0 <= self.label < K):
            raise MapError(
                f"a target names one of {B} images, {A} candidates and {K} classes, "
                f"got image {self.image}, candidate {self.candidate}, class {self.label}"
            )
        if self.quantity == "class":
            return predictions.scores[self.image, self.candidate, self.label]
        return predictions.boxes_of(self.label)[self.image, self.candidate, SIDES.index(self.quantity)]


@contextmanager
def activations(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Catch the maps that layers give, with their graphs.

    What follows a layer is handed a copy, so that an operator in place cannot change what was caught.

    Args:
        model: The model.
        layers: Paths of modules in it that give one map ``(B, C, H, W)``.

    Yields:
        The maps by path, filled when the model runs.

    Raises:
        MapError: If there is no such layer.
    """
    known = dict(model.named_modules())
    for layer in layers:
        if layer not in known:
            raise MapError(f"this model has no layer {layer!r}; {suggest(layer, [n for n in known if n][:2000])}")
    caught: dict[str, Tensor] = {}

    def catch(layer: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Tensor | None:
            if not isinstance(output, Tensor) or output.dim() != 4:
                raise MapError(f"layer {layer} gives no map (B, C, H, W) but {_describe(output)}; choose another layer")
            caught[layer] = output
            return output.clone()

        return hook

    handles = [known[layer].register_forward_hook(catch(layer)) for layer in layers]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def odam(
    model: nn.Module,
    predict: Predict,
    images: Tensor,
    targets: Sequence[Target],
    layers: Sequence[str],
    *,
    smoothing: float = 0.0,
    signed: bool = False,
    allow_unused: bool = False,
) -> Mapping[str, Tensor]:
    """Return where a layer's activation speaks for each target.

    It is a first-order answer at one layer, in the layer's own resolution; it does not say what the layers before saw.

    Args:
        model: The model, in evaluation mode.
        predict: What runs it and gives its raw predictions with gradients.
        images: ``(B, 3, H, W)``.
        targets: What is asked; one backward pass each.
        layers: Paths of modules that give one map.
        smoothing: Standard deviation in cells of a Gaussian over the gradient; 0 for none.
        signed: Whether to keep what speaks against the target, below zero.
        allow_unused: Whether a target that does not depend on a layer gets a map of zeros there, which is its
            derivative, and no error.

    Returns:
        A map of each target by layer, ``(T, H, W)``, in the units of the target.

    Raises:
        MapError: If there is no target or no such layer, or the target does not depend on the layer.
    """
    require_recordable(model)
    if not targets:
        raise MapError("there is no detection to explain; lower the confidence threshold, or choose another image")
    with torch.enable_grad(), activations(model, layers) as caught:
        predictions = predict(images.detach().clone().requires_grad_())
        numbers = [target.of(predictions) for target in targets]
        if missing := [layer for layer in layers if layer not in caught]:
            raise MapError(f"layer {missing[0]} did not run; choose one that does")
        maps: dict[str, list[Tensor]] = {layer: [] for layer in layers}
        for target, number in zip(targets, numbers, strict=True):
            for layer, gradient in zip(layers, _gradients(number, [caught[name] for name in layers]), strict=True):
                if gradient is None and allow_unused:
                    gradient = torch.zeros_like(caught[layer])
                if gradient is None:
                    raise MapError(f"the {target.quantity} of a detection does not depend on layer {layer}")
                maps[layer].append(_weigh(caught[layer][target.image], gradient[target.image], smoothing))
    return {layer: torch.stack(found) if signed else torch.stack(found).relu() for layer, found in maps.items()}


def _gradients(number: Tensor, maps: list[Tensor]) -> tuple[Tensor | None, ...]:
    if not number.requires_grad:
        raise MapError("the predictions carry no gradient; predict() must not run under torch.no_grad()")
    return gradients(number, maps)


def _weigh(activation: Tensor, gradient: Tensor, smoothing: float) -> Tensor:
    """Return the sum over channels of gradient times activation, ``(C, H, W)`` to ``(H, W)``, in float32 at least."""
    gradient = at_least_single(gradient)
    if smoothing > 0:
        gradient = smooth(gradient[None], smoothing)[0]
    return (gradient * at_least_single(activation.detach())).sum(0)


def smooth(maps: Tensor, deviation: float) -> Tensor:
    """Blur maps ``(B, C, H, W)`` by a Gaussian, whose weights at the border are those of the cells that are there.

    Args:
        maps: The maps.
        deviation: Standard deviation in cells.
    """
    reach = max(1, round(3 * deviation))
    place = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-(place**2) / (2 * deviation**2))
    kernel = kernel / kernel.sum()

    def along(x: Tensor) -> Tensor:
        x = F.conv2d(x.flatten(0, 1).unsqueeze(1), kernel.view(1, 1, -1, 1), padding=(reach, 0))
        x = F.conv2d(x, kernel.view(1, 1, 1, -1), padding=(0, reach))
        return x.view(maps.shape)

    return along(maps) / along(torch.ones_like(maps))


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    return f"a {type(value).__name__}"
