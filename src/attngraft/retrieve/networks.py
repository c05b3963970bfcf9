"""Models as keys of images are read from them: how images are prepared, what is pooled, and what is detected."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attngraft._core.errors import MapError, OptionError
from attngraft.fit.files import is_run
from attngraft.maps import Detection, Prepared
from attngraft.maps.recording import require_recordable
from attngraft.yolo.looking import Watched

Pixels = NDArray[np.uint8]
Size = int | tuple[int, int]
STOCK = "a detector with attention of its own, such as yolo11n.pt or yolo12n.pt"


class Subject(Protocol):
    """A model that keys are read from.

    Attributes:
        network: What is run on batches ``(B, 3, H, W)`` from 0 to 1.
        imgsz: The side of its images, where nothing else is asked.
        pooled: Path of the module whose maps or vectors make the standard key.
        enters: Whether they are that module's input, and not its output.
        names: Names of the classes, where it tells any.
    """

    names: dict[int, str]
    network: nn.Module
    imgsz: Size
    pooled: str
    enters: bool

    def prepare(self, image: Pixels, imgsz: Size) -> Prepared:
        """Bring an image into the form that the network takes, ``(1, 3, H, W)``."""

    def find(self, images: Tensor, confidence: float) -> list[list[Detection]]:
        """Detect objects.

        Raises:
            OptionError: If it is no detector.
        """


class Detector:
    """A model of Ultralytics; a standard key is the map from which the head reads the largest objects, pooled.

    That is the layer that Ultralytics' own ``embed`` takes. Of a classifier it is what its last linear layer is given.

    Args:
        model: A checkpoint, a recipe, or an opened model.

    Raises:
        MapError: If it is an exported file.
    """

    def __init__(self, model: Any) -> None:
        if isinstance(model, (str, Path)):
            from attngraft.yolo import YOLO

            # What a recipe draws at random has to be the same numbers again when a query comes.
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(0)
                model = YOLO(model)
        self.watched = Watched(model)
        self.network: nn.Module = self.watched.network.requires_grad_(False)
        self.names = self.watched.names
        self.imgsz: Size = self.watched.imgsz
        self.enters = self.watched.task == "classify"
        self.pooled = _path_of(self.network, self.watched.head.linear) if self.enters else self.watched.layers[-1]

    def prepare(self, image: Pixels, imgsz: Size) -> Prepared:
        """Scale and pad an image as Ultralytics does."""
        return self.watched.prepare(image, imgsz)

    def find(self, images: Tensor, confidence: float) -> list[list[Detection]]:
        """Detect as Ultralytics does."""
        if self.watched.task == "classify":
            raise OptionError("a classifier finds no boxes; cut images into tiles, or use a detector")
        return self.watched.find(images, confidence=confidence)


class Classifier:
    """A PyTorch model that takes images from 0 to 1; a standard key is what its last linear layer is given.

    Args:
        network: The model.
        imgsz: The side that images are scaled to, or height and width.

    Raises:
        MapError: If it cannot be recorded: it is compiled, or in training mode.
        OptionError: If it has no linear layer.
    """

    def __init__(self, network: nn.Module, imgsz: Size = 224) -> None:
        require_recordable(network)
        linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise OptionError(f"{type(network).__name__} has no linear layer whose input could be the standard key")
        self.network, self.imgsz, self.pooled, self.enters = network, imgsz, linear[-1], True
        self.names: dict[int, str] = {}

    def prepare(self, image: Pixels, imgsz: Size) -> Prepared:
        """Scale an image, each side for itself."""
        import cv2

        height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
        scales = width / image.shape[1], height / image.shape[0]
        how = cv2.INTER_AREA if min(scales) < 1 else cv2.INTER_LINEAR
        scaled = cv2.resize(image, (width, height), interpolation=how)
        tensor = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))[None] / 255
        return Prepared(tensor.to(next(self.network.parameters())), scales, (0.0, 0.0))

    def find(self, images: Tensor, confidence: float) -> list[list[Detection]]:
        """Raise an `OptionError`."""
        raise OptionError("a classifier finds no boxes; cut images into tiles, or use a detector")


class _Normalized(nn.Module):
    """A network that was trained with `attngraft.fit`, with the scaling of its images before it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        from attngraft.fit.tasks.learner import normalized

        logits: Tensor = self.network(normalized(images * 255))
        return logits


def opened(model: Any) -> Subject:
    """Open a model.

    Args:
        model: A checkpoint of a YOLO or of ``attngraft fit``, a recipe, an opened YOLO, or any PyTorch classifier.

    Raises:
        OptionError: If nothing can be read from it.
        MapError: If it cannot be recorded.
    """
    if isinstance(model, (str, Path)) and is_run(model):
        from attngraft.fit.trained import load

        trained = load(model)
        if trained.options.task != "classify":
            raise OptionError(f"keys of images are read from a YOLO or a classifier, and {model} is for "
                              f"{trained.options.task}")  # fmt: skip
        return Classifier(_Normalized(trained.learner.network).eval(), trained.options.imgsz)
    if isinstance(model, nn.Module) and not hasattr(model, "predictor") and not _is_detection(model):
        return Classifier(model)
    return Detector(model)


def require_heads(network: nn.Module, found: object) -> None:
    """Require a model to have attention over cells.

    Args:
        network: The model.
        found: Its attentions.

    Raises:
        MapError: If it has none; names mechanisms that would do.
    """
    if not found:
        raise MapError(
            f"{type(network).__name__} has no attention with heads that can be read on its maps; graft one that mixes "
            f"cells and train, as in yolo11n+mhsa@P5 (also psa_attention, area_attention, mha, bra, dat, hab), or use "
            f"{STOCK}"
        )


def _is_detection(model: nn.Module) -> bool:
    return isinstance(getattr(model, "model", None), nn.Sequential) and hasattr(model, "names")


def _path_of(network: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in network.named_modules() if module is wanted)
