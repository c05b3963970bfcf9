"""Parts of transformer blocks that several mechanisms are built of."""

from __future__ import annotations

from torch import Tensor, nn

from attngraft._core.errors import OptionError


class MLP(nn.Module):
    """Two linear layers with a GELU between them, over the last axis.

    Args:
        channels: Width of the input and the output.
        hidden: Width between the two layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``fc2(gelu(fc1(x)))``."""
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return y


class DropPath(nn.Module):
    """Drop a residual branch for some images of a batch while training, and scale the others up to the same mean.

    Args:
        rate: Probability of dropping, at least 0 and below 1.

    Raises:
        OptionError: If ``rate`` is not in that range.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise OptionError(f"DropPath needs a rate of at least 0 and below 1, got {rate}; 0 drops nothing")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Return the branch, with some images' share set to zero while training."""
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(1 - self.rate)  # (B, 1, ..., 1)
        return x * (keep / (1 - self.rate))
