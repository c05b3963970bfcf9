"""Train the small networks whose heads the image benchmarks retrieve by; what is trained is kept for the next call."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft.attention import MHSA

SIDE = 48
EPOCHS, BATCH, RATE = 8, 64, 2e-3
MEAN, SCALE = 0.5, 0.25


class SmallNet(nn.Module):
    """Three convolutions to stride 4, one MHSA of 8 heads of 16 channels, an MLP, and the mean over the map.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        sizes = ((3, 32, 2), (32, 64, 2), (64, 128, 1))
        self.stem = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.SiLU())
                for a, b, stride in sizes
            )
        )
        self.before = nn.BatchNorm2d(128)
        self.attention = MHSA(128, heads=8, position="none")
        self.mlp = nn.Sequential(nn.BatchNorm2d(128), nn.Conv2d(128, 256, 1), nn.SiLU(), nn.Conv2d(256, 128, 1))
        nn.init.normal_(self.attention.qkv.weight, std=128**-0.5)
        self.head = nn.Linear(128, classes)

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled vector that the classes are read from, ``(B, 128)``."""
        x = self.stem((images - MEAN) / SCALE)
        x = x + self.attention(self.before(x))
        x = x + self.mlp(x)
        return x.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the classes."""
        logits: Tensor = self.head(self.features(images))
        return logits


def read_split(folder: Path, classes: list[str], side: int = SIDE) -> tuple[Tensor, NDArray[np.int64], list[str]]:
    """Return the images of a split ``(N, 3, side, side)`` of bytes, their classes and their paths."""
    files = sorted(folder.glob("*/*.jpg"))
    pixels = np.empty((len(files), side, side, 3), np.uint8)
    for row, file in enumerate(files):
        found = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
        pixels[row] = cv2.resize(found, (side, side), interpolation=cv2.INTER_AREA)[..., ::-1]
    labels = np.array([classes.index(file.parent.name) for file in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels, [str(file) for file in files]


def train(images: Tensor, labels: NDArray[np.int64], classes: int, seed: int, epochs: int = EPOCHS) -> SmallNet:
    """Train a network to tell one class an image; flips and shifts of up to 4 pixels are all the augmentation."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net, targets = SmallNet(classes), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.05)
    steps = -(-len(images) // BATCH) * epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.2)
    for _ in range(epochs):
        for chosen in torch.from_numpy(rng.permutation(len(images))).split(BATCH):
            batch = _augment(images[chosen].float() / 255, rng)
            loss = F.cross_entropy(net.train()(batch), targets[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def _augment(images: Tensor, rng: np.random.Generator) -> Tensor:
    side = images.shape[2]
    padded = F.pad(images, (4, 4, 4, 4), mode="reflect")
    moved = []
    for image in padded:
        top, left = rng.integers(0, 9, 2)
        cut = image[:, top : top + side, left : left + side]
        moved.append(cut.flip(2) if rng.integers(2) else cut)
    return torch.stack(moved)


@torch.no_grad()
def accuracy(net: SmallNet, images: Tensor, labels: NDArray[np.int64]) -> float:
    """Return the share of images whose class is the first."""
    found = torch.cat([net(part.float() / 255).argmax(1) for part in images.split(256)])
    return float((found.numpy() == labels).mean())


def grocery_net(data: Path, kept: Path, seed: int, epochs: int = EPOCHS) -> SmallNet:
    """Return the network of a seed, trained on the training split of the grocery data or read from ``kept``."""
    classes = sorted(folder.name for folder in (data / "train").iterdir())
    file = kept / f"grocery-{SIDE}-{epochs}-{seed}.pt"
    if file.exists():
        net = SmallNet(len(classes))
        net.load_state_dict(torch.load(file, weights_only=True))
        return net.eval()
    images, labels, _ = read_split(data / "train", classes)
    net = train(images, labels, len(classes), seed, epochs)
    kept.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), file)
    return net
