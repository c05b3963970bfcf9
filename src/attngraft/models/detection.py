"""R-CNN: Faster and Mask R-CNN on a feature pyramid over any classifier whose stages can be read.

Paper: Mask R-CNN, He et al., ICCV 2017, arXiv 1703.06870, with the backbones of Bottleneck Transformers for Visual
    Recognition, Srinivas et al., CVPR 2021, arXiv 2101.11605.
Code: torchvision, models/detection (BSD-3-Clause), whose classes do the work.
Differs: Images keep their proportions within 1024 x 1024 pixels (those so long and thin that no pixel of the short
    side would be left are widened to one) and are padded to a batch; the paper's images are scaled by a random factor
    and cropped or padded to that size, which belongs to the training recipe and not to the model.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from attngraft._core.checks import known_options, one_of, positive
from attngraft._core.errors import OptionError
from attngraft.models._registry import create, model, record
from attngraft.models._stages import Stages

BODIES = tuple(f"{family}{depth}" for family in ("botnet", "resnet") for depth in (50, 101, 152, 200))
"""The classifiers with an entry of their own in the table; `fasterrcnn` and `maskrcnn` take any with stages."""

NORMS = ("batch", "frozen", "sync")
ANCHOR_SIZES = ((32,), (64,), (128,), (256,), (512,))
"""Side of the anchors of each level in pixels: eight cells."""


TRANSFORM_OPTIONS = ("size_divisible", "fixed_size")
"""What torchvision's classes pass on to their transform, and their signature does not name."""


class FeaturePyramid(nn.Module):
    """A feature pyramid over a classifier: the backbone that torchvision's detectors take, under torchvision's names.

    Args:
        body: What gives the maps.
        channels: Channels of every level.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: a dictionary of ``(B, channels, h, w)``, the finest first, and last the coarsest at half its size.

    Raises:
        OptionError: If the stages of ``body`` cannot be read.
    """

    def __init__(self, body: nn.Module, channels: int = 256) -> None:
        from torchvision.ops import FeaturePyramidNetwork
        from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

        super().__init__()
        if not isinstance(body, Stages):
            raise OptionError(f"a pyramid needs a model that gives the maps of its stages, not {type(body).__name__}")
        self.body = body
        self.out_channels = channels
        self.fpn = FeaturePyramidNetwork(list(body.channels), channels, LastLevelMaxPool())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the levels."""
        maps = OrderedDict((str(i), stage) for i, stage in enumerate(self.body.forward_features(x)))
        levels: dict[str, Tensor] = self.fpn(maps)
        return levels


@model("detect", *(f"fasterrcnn_{body}" for body in BODIES))
def named_fasterrcnn(name: str, **options: Any) -> nn.Module:
    """Build a Faster R-CNN on a feature pyramid."""
    return fasterrcnn(name.removeprefix("fasterrcnn_"), **options)


@model("segment", *(f"maskrcnn_{body}" for body in BODIES))
def named_maskrcnn(name: str, **options: Any) -> nn.Module:
    """Build a Mask R-CNN on a feature pyramid."""
    return maskrcnn(name.removeprefix("maskrcnn_"), **options)


def fasterrcnn(body: str, **options: Any) -> nn.Module:
    """Build a Faster R-CNN on a feature pyramid over a classifier.

    Args:
        body: Name of the classifier, such as ``"botnet50"``.
        **options: As for `maskrcnn`.

    Raises:
        OptionError: As `maskrcnn` does.
    """
    from torchvision.models.detection import FasterRCNN

    return _rcnn(FasterRCNN, body, **options)


def maskrcnn(body: str, **options: Any) -> nn.Module:
    """Build a Mask R-CNN on a feature pyramid over a classifier.

    It is called as torchvision's: with images and targets it gives losses, in evaluation it gives detections. Labels
    run from 1, and 0 is the background.

    Args:
        body: Name of the classifier, such as ``"botnet50"``.
        **options: ``num_classes`` (91, as COCO's numbers), without the background; ``min_size`` and ``max_size`` (1024
            and 1024) of the images; ``norm``, how the backbone's batch norms behave: ``"batch"`` trains them,
            ``"sync"`` trains them over all devices, ``"frozen"`` keeps them as they are loaded; ``body_options`` for
            the classifier; ``channels`` (256) of the pyramid; and whatever torchvision's class takes.

    Raises:
        OptionError: If ``norm`` is none of these, an option is unknown, or the classifier's stages cannot be read.
    """
    from torchvision.models.detection import MaskRCNN

    return _rcnn(MaskRCNN, body, **options)


def _rcnn(
    detector: Callable[..., nn.Module],
    body: str,
    *,
    num_classes: int = 91,
    min_size: int = 1024,
    max_size: int = 1024,
    norm: str = "batch",
    channels: int = 256,
    body_options: dict[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    from torchvision.models.detection.rpn import AnchorGenerator

    from attngraft.models._fitting import Fitting

    ours = {*inspect.signature(_rcnn).parameters, *TRANSFORM_OPTIONS} - {"detector", "body", "options"}
    known_options("R-CNN", options, ours | set(inspect.signature(detector).parameters) - {"backbone", "kwargs"})
    one_of("R-CNN", "norm", norm, NORMS)
    positive("R-CNN", num_classes=num_classes, min_size=min_size, max_size=max_size)
    # BoTNet keeps a row a line of its map; FLatten a number a cell, too many at this size, and resizes them anyway.
    sized = {"image_size": max_size} if "position" in record(body).options else {}
    classifier = create(body, **{"num_classes": 0, **sized, **(body_options or {})})
    backbone = _with_norm(FeaturePyramid(classifier, channels), norm)
    anchors = AnchorGenerator(ANCHOR_SIZES, ((0.5, 1.0, 2.0),) * len(ANCHOR_SIZES))
    options = {"rpn_anchor_generator": anchors, **options}
    made = detector(backbone, num_classes + 1, min_size=min_size, max_size=max_size, **options)
    made.transform = Fitting.like(made.transform)
    return made


def _with_norm(module: nn.Module, norm: str) -> nn.Module:
    if norm == "sync":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    if norm == "frozen":
        from torchvision.ops import FrozenBatchNorm2d

        for parent in list(module.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    frozen = FrozenBatchNorm2d(child.num_features, child.eps)
                    frozen.load_state_dict(child.state_dict())
                    setattr(parent, name, frozen)
    return module
