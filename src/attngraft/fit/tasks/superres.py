"""Super-resolution: pairs, or large images whose small ones are made here; PSNR and SSIM on luma.

The small images are bicubic with a = -1/2 and widened by the factor (the antialiased form, that of Pillow and
MATLAB), rounded to 8 bits. Measures are those of the field: on the luma of BT.601, a border as wide as the factor cut
off, SSIM over whole windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics import SumMetric
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchvision.transforms.v2 import functional as TF

from attngraft._core.errors import DataError
from attngraft.fit.data.folders import PairSet, read_pairs
from attngraft.fit.data.images import read_unit, stored_size
from attngraft.fit.data.loading import Key, chance
from attngraft.fit.options import Options
from attngraft.fit.tasks.learner import Learner
from attngraft.fit.tasks.tiling import checked, in_tiles, unit
from attngraft.measure.memory import free, peak

Pair = tuple[Tensor, Tensor]

LARGE = 16
"""How many probes an image has to be as large as before its memory is measured."""

WINDOW = 11
"""Side of SSIM's Gaussian window; a smaller image has no SSIM."""

MEASURES = ("psnr", "ssim")


class Pairs(Dataset[Pair]):
    """Small and large images from 0 to 1: random patches for training, whole ones for measuring."""

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


class SuperResolution(Learner):
    """Train a network that enlarges images, by the mean absolute difference."""

    monitor = "psnr"
    when_full = "enlarge it in parts, as with tile=256"

    def __init__(self, options: Options, classes: Sequence[str] = ()) -> None:
        super().__init__(options)
        self._tile: int | None = None
        self._overlap = 0
        self._per_pixel: float | None = None
        names = [prefix + name for prefix in ("", "bicubic_") for name in MEASURES]
        self.sums: Any = torch.nn.ModuleDict({name: SumMetric(nan_strategy="disable") for name in names})
        self.counts: Any = torch.nn.ModuleDict({name: SumMetric() for name in (*MEASURES, "images")})

    @classmethod
    def read(cls, options: Options, split: str) -> PairSet:
        """Read a split of the data set, and check the sizes of its images by the heads of their files."""
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
        """Load a split; whole images come one by one, as they differ in size."""
        pairs = Pairs(data, self.options, training=training)
        return self.batches(pairs, training=training, size=self.options.batch // parts if training else 1)

    def training_step(self, batch: Pair, index: int) -> Tensor:
        """Return the loss of a batch of patches."""
        low, high = batch
        loss = F.l1_loss(self.network(low), high)
        self.noted(loss, len(low))
        return loss

    def validation_step(self, batch: Pair, index: int) -> None:
        """Measure an image, and bicubic enlargement beside it; what one of them lacks is left out of both means."""
        low, high = batch
        shave = self.options.scale
        ours, bicubics = (measures(made, high, shave) for made in (self.network(low), bicubic(low, high.shape[-2:])))
        self.counts["images"].update(1.0)
        for name in MEASURES:
            both = name in ours and name in bicubics
            self.counts[name].update(float(both))
            self.sums[name].update(ours[name] if both else 0.0)
            self.sums[f"bicubic_{name}"].update(bicubics[name] if both else 0.0)

    def on_validation_epoch_end(self) -> None:
        """Log the means over all devices, and how many images have no part in them; a mean of none is left out too."""
        sums = {name: float(metric.compute()) for name, metric in self.sums.items()}
        counts = {name: float(metric.compute()) for name, metric in self.counts.items()}
        for metric in (*self.sums.values(), *self.counts.values()):
            metric.reset()
        for name, total in sums.items():
            images = counts[name.removeprefix("bicubic_")]
            if images or name == self.monitor:  # Lightning asks for the monitor after every epoch
                self.log(name, total / images if images else math.nan)
        for name in MEASURES:
            if counts[name] < counts["images"]:
                self.log(f"{name}_left_out", counts["images"] - counts[name])

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return each image enlarged, ``(3, sH, sW)`` from 0 to 1; those of equal size go through together.

        Raises:
            DataError: If one needs more memory than there is.
        """
        made: dict[int, Tensor] = {}
        for places in _alike(images):
            batch = torch.stack([images[place] for place in places]).to(self.device).float() / 255
            made |= dict(zip(places, self._enlarged(batch).float().clamp(0, 1).cpu(), strict=True))
        return [made[place] for place in range(len(images))]

    def _enlarged(self, batch: Tensor) -> Tensor:
        self._check_memory(batch)
        if self._tile is None:
            whole: Tensor = self.network(batch)
            return whole
        how = {"scale": self.options.scale, "tile": self._tile, "overlap": self._overlap}
        return torch.cat([in_tiles(self.network, image[None], **how) for image in batch])

    def _check_memory(self, batch: Tensor) -> None:
        """Refuse what memory cannot hold before it is tried; small images are not measured.

        What windows and convolutions need grows with the pixels, so that a probe of one size tells of all.
        """
        if self.device.type not in ("cpu", "cuda"):
            return
        count, _, height, width = batch.shape
        if self._tile is not None:  # tile by tile, image by image
            height, width = (min(side, self._tile + 2 * self._overlap) for side in (height, width))
            count = 1
        pixels, probe = count * height * width, 4 * unit(self.network)
        room = free(self.device)
        if pixels < LARGE * probe**2:
            return
        if self._per_pixel is None:
            self._per_pixel = peak(self.network, batch[:1, :, :probe, :probe].contiguous()) / probe**2
        if self._per_pixel * pixels > room:
            smaller = "a smaller tile" if self._tile is not None else f"tile={4 * probe}"
            many = f"{count} images of " if count > 1 else ""
            raise DataError(
                f"{many}{width}x{height} pixels need about {self._per_pixel * pixels / 2**30:.1f} GiB of memory on "
                f"{self.device.type}, and {room / 2**30:.1f} GiB are free; give {smaller}"
            )

    def tiles(self, tile: int | None, overlap: int | None) -> None:
        """Take the size of the parts in which images are enlarged.

        Raises:
            OptionError: If they do not fit the network's windows.
        """
        self._tile, self._overlap = checked(self.network, tile, overlap)

    def describe(self, result: Tensor) -> str:
        """Return the size."""
        return f"{result.shape[-1]}x{result.shape[-2]} pixels"

    def draw(self, image: Tensor, result: Tensor) -> Image.Image:
        """Return the enlarged image."""
        picture: Image.Image = TF.to_pil_image(result)
        return picture


def _alike(images: Sequence[Tensor]) -> list[list[int]]:
    """Return the places of images of equal size."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(tuple(image.shape), []).append(place)
    return list(places.values())


def pair(high: Path, low: Path | None, scale: int) -> Pair:
    """Read a large image and read or make the small one.

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
    """Resize images ``(B, 3, H, W)`` and round to 8 bits."""
    made = F.interpolate(images, size=tuple(size), mode="bicubic", antialias=True)
    return made.clamp(0, 1).mul(255).round().div(255)


def patch(low: Tensor, high: Tensor, side: int, *, flip: bool) -> Pair:
    """Cut the same random square out of both, and turn and mirror it at random; a smaller image is continued."""
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
    """Return PSNR and SSIM of one image ``(1, 3, H, W)`` on luma, the border left out.

    An image that is nothing but border has neither, one that is smaller than the window no SSIM, and one that is made
    exactly, as bicubic makes a flat one, no PSNR: it would be infinite, and so would the mean over a data set.

    Args:
        made: The enlarged image, from 0 to 1.
        truth: The large one.
        shave: Width of the border, in pixels.
    """
    found, wanted = (luma(image.float().clamp(0, 1).mul(255).round()) for image in (made, truth))
    found, wanted = (image[..., shave : -shave or None, shave : -shave or None] for image in (found, wanted))
    if not wanted.numel():
        return {}
    numbers = {}
    if not torch.equal(found, wanted):
        numbers["psnr"] = peak_signal_noise_ratio(found, wanted, data_range=255.0)
    if min(wanted.shape[-2:]) >= WINDOW:
        numbers["ssim"] = ssim(found, wanted)
    return numbers


def ssim(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean SSIM of images ``(B, 1, H, W)`` from 0 to 255 over the windows that lie whole inside them.

    This is the mean of Wang et al. 2004 (https://doi.org/10.1109/TIP.2003.819861) and of the field. That of
    torchmetrics takes in windows that reach over the edge, into a reflected image.

    Args:
        found: The images to measure, no side smaller than the window.
        wanted: What they should be.
    """
    # Variances are differences of large squares: float64, which autocast and TF32 leave alone, and which MPS lacks.
    device = torch.device("cpu") if wanted.device.type == "mps" else wanted.device
    ours, truth = (image.to(device).double() for image in (found, wanted))
    _, values = structural_similarity_index_measure(ours, truth, data_range=255.0, return_full_image=True)
    edge = WINDOW // 2
    return values[..., edge:-edge, edge:-edge].mean().float().to(wanted.device)


def luma(images: Tensor) -> Tensor:
    """Return the luma ``(B, 1, H, W)`` of images from 0 to 255, from 16 to 235 as BT.601 has it."""
    weights = images.new_tensor((65.481, 128.553, 24.966)) / 255
    return 16 + (images * weights[:, None, None]).sum(-3, keepdim=True)
