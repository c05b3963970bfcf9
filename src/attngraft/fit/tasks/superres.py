"""Super-resolution: pairs, or large pictures whose small ones are made here; PSNR and SSIM on luma.

The small pictures are bicubic with a = -1/2 and widened by the factor (the antialiased form, that of Pillow and
MATLAB), rounded to 8 bits. Measures are those of the field: on the luma of BT.601, a border as wide as the factor cut
off.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from attngraft._core.errors import DataError
from attngraft.fit.data.folders import PairSet, read_pairs
from attngraft.fit.data.images import read_unit, stored_size
from attngraft.fit.data.loading import Key, chance
from attngraft.fit.options import Options
from attngraft.fit.tasks.learner import Learner

Pair = tuple[Tensor, Tensor]

WINDOW = 11
"""Side of SSIM's Gaussian window; a smaller picture has no SSIM."""


class Pairs(Dataset[Pair]):
    """Small and large pictures from 0 to 1: random patches for training, whole ones for measuring."""

    def __init__(self, data: PairSet, options: Options, *, training: bool) -> None:
        self.data = data
        self.options = options
        self.training = training

    def __len__(self) -> int:
        return len(self.data.high)

    def __getitem__(self, key: Key) -> Pair:
        low, high = pair(self.data.high[key[1]], self.data.low[key[1]], self.options.scale)
        if not self.training:
            return low, high
        with chance(self.options.seed, key):
            return patch(low, high, self.options.imgsz, flip=self.options.flip)


class Enlarger(Learner):
    """Train a network that enlarges pictures, by the mean absolute difference."""

    monitor = "psnr"

    def __init__(self, options: Options, classes: Sequence[str] = ()) -> None:
        super().__init__(options)
        self.scores = torch.nn.ModuleDict(
            {name: MeanMetric(nan_strategy="disable") for name in ("psnr", "ssim", "bicubic_psnr", "bicubic_ssim")}
        )

    @classmethod
    def read(cls, options: Options, split: str) -> PairSet:
        """Read a split of the data set, and check the sizes of its pictures by the heads of their files."""
        data = read_pairs(Path(options.data), split)
        for high, low in zip(data.high, data.low, strict=True):
            size, small = stored_size(high), None if low is None else stored_size(low)
            turned = small is not None and (size[0] < size[1]) != (small[0] < small[1])  # perhaps by a tag
            _check_sizes(high, size[::-1] if turned else size, low, small, options.scale)
        return data

    @classmethod
    def classes_of(cls, data: PairSet) -> tuple[str, ...]:
        """Return nothing: there are no classes."""
        return ()

    def network_options(self) -> dict[str, Any]:
        """Return the factor."""
        return {"scale": self.options.scale}

    def loader(self, data: PairSet, *, training: bool, parts: int) -> DataLoader[Any]:
        """Load a split; whole pictures come one by one, as they differ in size."""
        pairs = Pairs(data, self.options, training=training)
        return self.batches(pairs, training=training, size=self.options.batch // parts if training else 1)

    def training_step(self, batch: Pair, index: int) -> Tensor:
        """Return the loss of a batch of patches."""
        low, high = batch
        loss = F.l1_loss(self.network(low), high)
        self.noted(loss, len(low))
        return loss

    def validation_step(self, batch: Pair, index: int) -> None:
        """Measure a picture, and bicubic enlargement beside it."""
        low, high = batch
        shave = self.options.scale
        for prefix, made in {"": self.network(low), "bicubic_": bicubic(low, high.shape[-2:])}.items():
            for name, value in measures(made, high, shave).items():
                self.scores[prefix + name](value)
        self.log_dict(self.scores, on_epoch=True, batch_size=1)  # type: ignore[arg-type]  # a mapping of metrics

    @torch.inference_mode()
    def predict(self, path: Path) -> Tensor:
        """Return the enlarged picture ``(3, sH, sW)`` from 0 to 1."""
        made: Tensor = self.network(read_unit(path)[None].to(self.device))
        return made[0].float().clamp(0, 1)


def pair(high: Path, low: Path | None, scale: int) -> Pair:
    """Read a large picture and read or make the small one.

    Raises:
        DataError: If the large one is not ``scale`` times as large, or has fewer pixels than that.
    """
    large = read_unit(high)
    small = None if low is None else read_unit(low)
    height, width = large.shape[-2:]
    _check_sizes(high, (width, height), low, None if small is None else (small.shape[-1], small.shape[-2]), scale)
    if small is not None:
        return small, large
    large = large[:, : height // scale * scale, : width // scale * scale]
    return bicubic(large[None], (height // scale, width // scale))[0], large


def _check_sizes(
    high: Path, size: tuple[int, int], low: Path | None, small: tuple[int, int] | None, scale: int
) -> None:
    """Require widths and heights that go together."""
    width, height = size
    if small is not None and size != (small[0] * scale, small[1] * scale):
        raise DataError(
            f"{high} has {width}x{height} pixels and should have scale={scale} times the {small[0]}x{small[1]} of {low}"
        )
    if min(size) < scale:
        raise DataError(f"{high} has {width}x{height} pixels, too few to be made {scale} times smaller")


def bicubic(images: Tensor, size: Sequence[int]) -> Tensor:
    """Resize pictures ``(B, 3, H, W)`` and round to 8 bits."""
    made = F.interpolate(images, size=tuple(size), mode="bicubic", antialias=True)
    return made.clamp(0, 1).mul(255).round().div(255)


def patch(low: Tensor, high: Tensor, side: int, *, flip: bool) -> Pair:
    """Cut the same random square out of both, and turn and mirror it at random; a smaller picture is continued."""
    scale = high.shape[-1] // low.shape[-1]
    lacking = [max(0, side - length) for length in low.shape[-2:]]
    if any(lacking):
        below, right = lacking
        low = F.pad(low[None], (0, right, 0, below), mode="replicate")[0]
        high = F.pad(high[None], (0, right * scale, 0, below * scale), mode="replicate")[0]
    top, left = (int(torch.randint(length - side + 1, (1,))) for length in low.shape[-2:])
    cut = [image[:, top * s : (top + side) * s, left * s : (left + side) * s] for image, s in ((low, 1), (high, scale))]
    if flip:
        turns, mirror = int(torch.randint(4, (1,))), int(torch.randint(2, (1,)))
        cut = [torch.rot90(image.flip(-1) if mirror else image, turns, (-2, -1)) for image in cut]
    return cut[0].contiguous(), cut[1].contiguous()


def measures(made: Tensor, truth: Tensor, shave: int) -> dict[str, Tensor]:
    """Return PSNR and SSIM of one picture ``(1, 3, H, W)`` on luma, the border left out.

    A picture that is nothing but border has neither.
    """
    found, wanted = (luma(image.float().clamp(0, 1).mul(255).round()) for image in (made, truth))
    found, wanted = (image[..., shave : -shave or None, shave : -shave or None] for image in (found, wanted))
    if not wanted.numel():
        return {}
    numbers = {"psnr": peak_signal_noise_ratio(found, wanted, data_range=255.0)}
    if min(wanted.shape[-2:]) >= WINDOW:
        ssim = structural_similarity_index_measure(found, wanted, data_range=255.0)
        assert isinstance(ssim, Tensor)
        numbers["ssim"] = ssim
    return numbers


def luma(images: Tensor) -> Tensor:
    """Return the luma ``(B, 1, H, W)`` of pictures from 0 to 255, from 16 to 235 as BT.601 has it."""
    weights = images.new_tensor((65.481, 128.553, 24.966)) / 255
    return 16 + (images * weights[:, None, None]).sum(-3, keepdim=True)
