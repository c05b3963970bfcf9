"""What the classifiers of the papers share: four stages of blocks, from a map at a quarter of the image's size down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from attngraft._core.checks import feature_map, is_tracing, positive
from attngraft._core.errors import OptionError
from attngraft.attention._blocks import DropPath


class Pyramid(nn.Module):
    """Turn an image into maps at four strides, and the mean of the last map into logits.

    Attributes:
        channels: Channels of each map, from fine to coarse.
        strides: Pixels of the image to a cell of each map.

    Args:
        stages: Four modules; each takes the map of the one before, the first takes the image.
        channels: Channels of the stages' maps.
        norm: What the last map goes through before its mean is taken.
        num_classes: Number of classes; 0 for no classifier, so that the mean is the output.
        in_channels: Channels of the image.

    Shape:
        - Input: ``(B, in_channels, H, W)``, any size
        - Output: ``(B, num_classes)``
    """

    strides: tuple[int, ...] = (4, 8, 16, 32)

    def __init__(
        self,
        stages: Iterable[nn.Module],
        channels: Sequence[int],
        *,
        norm: nn.Module,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.channels: tuple[int, ...] = tuple(channels)
        self.in_channels = in_channels
        self.stages = nn.ModuleList(stages)
        self.norm = norm
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Re-initialize the last layer for so many classes; 0 leaves it out and gives the pooled features."""
        self.num_classes = num_classes
        self.head = nn.Linear(self.channels[-1], num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the maps ``(B, C_i, H_i, W_i)`` from fine to coarse; sizes that do not divide are rounded up."""
        feature_map(self, self.in_channels, x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        pooled = self.norm(self.forward_features(x)[-1]).mean((2, 3))  # (B, C)
        logits: Tensor = self.head(pooled)
        return logits


class Block(nn.Module):
    """Attend, then apply an MLP to each cell; both in a residual branch over normalised cells.

    Args:
        channels: Number of channels C.
        attention: A module that keeps the shape of a map.
        mlp: A module over maps laid out ``(B, H, W, C)``.
        drop_path: Probability of dropping a branch of an image while training.
        eps: What the normalisations add to a variance.
        convolve: Whether a depthwise convolution is added first, which tells the cells where they are.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``
    """

    def __init__(
        self,
        channels: int,
        attention: nn.Module,
        mlp: nn.Module,
        *,
        drop_path: float = 0.0,
        eps: float = 1e-6,
        convolve: bool = False,
    ) -> None:
        super().__init__()
        self.positions = nn.Conv2d(channels, channels, 3, padding=1, groups=channels) if convolve else None
        self.norm1 = ChannelNorm(channels, eps=eps)
        self.attention = attention
        self.norm2 = nn.LayerNorm(channels, eps=eps)
        self.mlp = mlp
        self.drop = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed map."""
        if self.positions is not None:
            x = x + self.positions(x)
        x = x + self.drop(self.attention(self.norm1(x)))
        tokens = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        tokens = tokens + self.drop(self.mlp(self.norm2(tokens)))
        return tokens.permute(0, 3, 1, 2)  # (B, C, H, W)


class ChannelNorm(nn.LayerNorm):
    """Normalise the channels of each cell of a map.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``, laid out channels-last
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised map."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def four(who: str, **options: Sequence[Any]) -> None:
    """Require options that name one value for each of the four stages.

    Raises:
        OptionError: If one has not four values.
    """
    for name, values in options.items():
        if len(values) != 4:
            raise OptionError(f"{who} needs {name} to be four values, one a stage, got {tuple(values)}")


def map_sizes(who: str, image_size: int | tuple[int, int]) -> list[tuple[int, int]]:
    """Return the height and width of each stage's map.

    Args:
        who: The network that is being built.
        image_size: Height and width of the image in pixels, or one number for both.

    Raises:
        OptionError: If they are not positive integers.

    Example:
        >>> map_sizes("A network", (224, 100))
        [(56, 25), (28, 13), (14, 7), (7, 4)]
    """
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    positive(who, image_height=height, image_width=width)
    return [(-(-height // stride), -(-width // stride)) for stride in Pyramid.strides]


def drop_rates(highest: float, depths: Sequence[int]) -> list[list[float]]:
    """Return each block's probability of being dropped: none for the first, rising evenly to the last.

    Example:
        >>> drop_rates(0.5, (1, 2, 2))
        [[0.0], [0.125, 0.25], [0.375, 0.5]]
    """
    positive("a stage", **{f"depth_{stage}": depth for stage, depth in enumerate(depths)})
    last = max(sum(depths) - 1, 1)
    ends = [sum(depths[: stage + 1]) for stage in range(len(depths))]
    return [[highest * i / last for i in range(end - depth, end)] for end, depth in zip(ends, depths, strict=True)]


def start_linear(layer: nn.Module) -> None:
    """Draw the weights of a linear layer, or of a convolution that is one, as vision transformers do."""
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def pad_to(x: Tensor, step: int) -> Tensor:
    """Pad a map ``(B, C, H, W)`` with zeros below and to the right, so that ``step`` divides both sides."""
    down, right = -x.shape[2] % step, -x.shape[3] % step
    if not is_tracing() and down == right == 0:
        return x
    return F.pad(x, (0, right, 0, down))
