"""An atlas of heads over a data set: how far each one looks, how sharply, at what, and which of them are alike."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import MapError
from attngraft.maps.detections import Box, cell_at, coverage
from attngraft.maps.readers import Grid
from attngraft.maps.recording import RecordedAttention, record


@dataclass(frozen=True)
class Head:
    """What one head does with the cells of objects, as means over them.

    Attributes:
        layer: Path of the attention.
        head: Number of the head.
        objects: How many objects were asked.
        distance: How far what it gathers lies from the object's cell, in pixels of the input, weighted by the mass.
        entropy: How spread the mass is: 0 for one cell, 1 for the same on all cells of the map.
        own: Share of the mass inside the object's own box.
        others: Share inside boxes of other objects.
        background: Share outside all boxes.
    """

    layer: str
    head: int
    objects: int
    distance: float
    entropy: float
    own: float
    others: float
    background: float


@dataclass(frozen=True)
class Atlas:
    """The heads of a model.

    Attributes:
        heads: A row for each head.
        agreement: For each layer, how alike each pair of its heads is: 1 less the mean Jensen-Shannon divergence of
            their rows, in bits; 1 for the same rows, 0 for rows that share no cell.
    """

    heads: list[Head]
    agreement: dict[str, list[list[float]]]

    def rows(self) -> list[dict[str, Any]]:
        """Return the heads as rows of a table."""
        return [asdict(head) for head in self.heads]

    def to_json(self) -> str:
        """Return the whole atlas as JSON."""
        return json.dumps({"heads": self.rows(), "agreement": self.agreement}, indent=1)


@dataclass
class _Sums:
    """Sums over objects of one layer."""

    numbers: list[Tensor] = field(default_factory=list)  # (Q, 5, h): distance, entropy, own, others, background
    divergence: list[Tensor] = field(default_factory=list)  # (Q, h, h)


def atlas(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Sequence[Sequence[Box]]]],
    *,
    run: Callable[[Tensor], Any] | None = None,
) -> Atlas:
    """Look at what every head gathers for the objects of a data set.

    The query of an object is the cell at the middle of its box. Weights of both signs count by their size; a decoder's
    attention, whose queries are no cells, is left out.

    Args:
        model: The model, in evaluation mode.
        batches: Images ``(B, 3, H, W)``, and the boxes of each image's objects in pixels of them: labels or detections.
        run: What runs the model on a batch; None calls it.

    Returns:
        The atlas.

    Raises:
        MapError: If the model has no attention over cells, or the data no object.
    """
    sums: dict[str, _Sums] = {}
    for images, boxes in batches:
        if not any(boxes):
            continue
        with record(model) as tape, torch.no_grad():
            (run or model)(images)
        size = (int(images.shape[2]), int(images.shape[3]))
        for name, attention in tape.attentions.items():
            if attention.grid is not None:
                _add(sums.setdefault(name, _Sums()), attention, boxes, size)
    if not sums:
        raise MapError(
            "an atlas needs a model with attention over cells, and images with objects; one of them is missing"
        )
    heads, agreement = [], {}
    for name, found in sums.items():
        means = torch.cat(found.numbers)
        for head, numbers in enumerate(means.mean(0).t().tolist()):
            heads.append(Head(name, head, len(means), *numbers))
        agreement[name] = (1 - torch.cat(found.divergence).mean(0)).tolist()
    return Atlas(heads, agreement)


def _add(sums: _Sums, attention: RecordedAttention, boxes: Sequence[Sequence[Box]], size: Grid) -> None:
    grid = attention.grid
    assert grid is not None
    cells = [[cell_at(_middle(box), size, grid) for box in of_image] for of_image in boxes]
    most = max(map(len, cells))
    padded = torch.tensor([of_image + [0] * (most - len(of_image)) for of_image in cells])
    rows = attention.rows(padded).abs().double().cpu()  # (B, h, Q, N)
    for image, of_image in enumerate(boxes):
        if of_image:
            asked = rows[image, :, : len(of_image)].transpose(0, 1)  # (Q, h, N)
            asked = asked / asked.sum(2, keepdim=True).clamp(min=1e-12)
            sums.numbers.append(_numbers(asked, cells[image], of_image, size, grid))
            sums.divergence.append(_divergence(asked))


def _numbers(rows: Tensor, cells: list[int], boxes: Sequence[Box], size: Grid, grid: Grid) -> Tensor:
    """Return distance, entropy and the three shares of each object and head, ``(Q, 5, h)``."""
    covers = torch.stack([coverage(box, size, grid).flatten() for box in boxes])  # (Q, N)
    found = []
    for index, (cell, of_object) in enumerate(zip(cells, rows, strict=True)):  # (h, N)
        own = covers[index]
        rest = torch.cat((covers[:index], covers[index + 1 :], torch.zeros(1, covers.shape[1])))
        others = torch.minimum(rest.amax(0), 1 - own)
        distance = (of_object * _distances(cell, size, grid)).sum(1)
        entropy = torch.special.entr(of_object).sum(1) / max(math.log(of_object.shape[1]), 1e-12)
        shares = [(of_object * part).sum(1) for part in (own, others, 1 - own - others)]
        found.append(torch.stack([distance, entropy, *shares]))
    return torch.stack(found)


def _distances(cell: int, size: Grid, grid: Grid) -> Tensor:
    """Return the distance of each cell's centre from that of one cell, in pixels, ``(N,)``."""
    row, column = divmod(cell, grid[1])
    down = (torch.arange(grid[0]) - row).double() * (size[0] / grid[0])
    right = (torch.arange(grid[1]) - column).double() * (size[1] / grid[1])
    return (down[:, None] ** 2 + right**2).sqrt().flatten()


def _divergence(rows: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of each pair of heads in bits, ``(Q, h, N)`` to ``(Q, h, h)``."""
    entropy = torch.special.entr(rows).sum(2)  # (Q, h)
    mixed = torch.stack([torch.special.entr((rows + head) / 2).sum(2) for head in rows.unsqueeze(2).unbind(1)], 1)
    return (mixed - (entropy[:, :, None] + entropy[:, None]) / 2) / math.log(2)


def _middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
