"""How a detector's images are fitted to its size, whatever their proportions."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes

from attngraft._core.checks import is_tracing


class Fitting(GeneralizedRCNNTransform):
    """torchvision's transform, for long thin images too: their short side would be scaled to no pixel.

    It is stretched first, so that a pixel is left of it. Boxes and masks follow, and detections come back in the
    image's own pixels, as torchvision scales each axis by itself.
    """

    @classmethod
    def like(cls, other: GeneralizedRCNNTransform) -> Fitting:
        """Return one of the same settings."""
        return cls(
            other.min_size,
            other.max_size,
            other.image_mean,
            other.image_std,
            other.size_divisible,
            other.fixed_size,
            _skip_resize=other._skip_resize,
        )

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Resize an image ``(3, H, W)`` and its target."""
        least = 1 if is_tracing() else max(image.shape[-2:]) // self.max_size + 1  # 49 * (1 / 49) is below 1
        if min(image.shape[-2:]) < least:
            image, target = _stretched(image, target, least)
        resized: tuple[Tensor, dict[str, Tensor] | None] = super().resize(image, target)
        return resized


def _stretched(image: Tensor, target: dict[str, Tensor] | None, least: int) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Make an image's short side at least so long."""
    before = image.shape[-2:]
    size = [max(side, least) for side in before]
    image = F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
    if target is None:
        return image, None
    target = {**target, "boxes": resize_boxes(target["boxes"], before, size)}
    if "masks" in target:
        target["masks"] = F.interpolate(target["masks"][:, None].float(), size)[:, 0].byte()
    return image, target
