"""Keys of images and of objects: what each attention head of a detector or classifier put together there.

A key is read off where the heads meet, before they are mixed: the input of the last projection, one group of channels a
head (`attngraft.maps.RecordedAttention.mixed`). Averaged over the map it is the key of the image; over the cells of a
box, by RoIAlign on the head's own map, the key of an object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from attngraft import maps
from attngraft._core.checks import one_of, positive
from attngraft._core.errors import DataError, MapError, OptionError, suggest
from attngraft._core.progress import SILENT, Progress, tell
from attngraft.drawing import read_image
from attngraft.maps import Box, RecordedAttention, Tape
from attngraft.retrieve import keys as key_file
from attngraft.retrieve.items import Item
from attngraft.retrieve.keys import Json, Keys, Kind
from attngraft.retrieve.networks import Size, Subject, opened, require_heads
from attngraft.retrieve.parts import View, box_of, part, path_of, tiles, views

Parts = Literal["crops", "objects", "tiles"]
PARTS: tuple[str, ...] = get_args(Parts)


class ImageEncoder:
    """Make keys of images and of objects with the attention of a model.

    An item is an image by its ``path``. With the fields `SIDES` it is an object in it, whose key is taken on the maps
    of the whole image; with ``cut`` besides, the object is cut out and encoded as an image of its own.

    Args:
        model: A checkpoint of a YOLO, grafted or not, or of ``attngraft fit``; a recipe; an opened YOLO; or a PyTorch
            classifier that takes images from 0 to 1.
        layers: Attentions whose heads are used: their paths, or numbers among all attentions over cells, as -1 for the
            last. None takes the last one of a graft, and the model's own last where nothing is grafted.
        imgsz: Side of the input, or its height and width; None takes the one of the training run.
        batch: Images at once.
        confidence: Least score of a detection that becomes a part.

    Raises:
        MapError: If the model has no attention over cells, or cannot be recorded.
        OptionError: If there is no such layer, or heads of several layers differ in width.
    """

    kind: Kind = "images"

    def __init__(
        self,
        model: Any,
        *,
        layers: int | str | Sequence[int | str] | None = None,
        imgsz: Size | None = None,
        batch: int = 16,
        confidence: float = 0.25,
    ) -> None:
        positive("ImageEncoder", batch=batch)
        self.subject: Subject = opened(model)
        self.name = str(model) if isinstance(model, (str, Path)) else type(self.subject.network).__name__
        self.imgsz: Size = self.subject.imgsz if imgsz is None else _size(imgsz)
        self.batch, self.confidence = batch, confidence
        blank = self.subject.prepare(np.zeros((64, 64, 3), np.uint8), self.imgsz)
        with self._recording() as (tape, pooled):
            self._run(blank.tensor)
            over_cells = [name for name, attention in tape.attentions.items() if _over_cells(attention)]
            require_heads(self.subject.network, over_cells)
            self.layers = _chosen(over_cells, layers)
            shapes = {name: tuple(tape[name].mixed().shape) for name in self.layers}
            self.width = int(_one_vector(pooled["standard"]).shape[1])
        widths = {shape[3] for shape in shapes.values()}
        if len(widths) > 1:
            said = ", ".join(f"{name} {shape[3]}" for name, shape in shapes.items())
            raise OptionError(f"heads of several layers need keys of one width, got {said}; choose one layer")
        self.heads = sum(shape[1] for shape in shapes.values())
        self.dim = widths.pop()

    @cached_property
    def fingerprint(self) -> str:
        """Return what tells these keys from others: the weights, the layers and the size of images."""
        options: dict[str, Json] = {"layers": list(self.layers), "imgsz": _plain(self.imgsz), "pooled": self._pooled}
        return key_file.fingerprint(self.subject.network.state_dict(), options)

    def describe(self) -> dict[str, Json]:
        """Return what it takes to build this encoder again, as JSON."""
        return {
            "kind": self.kind,
            "model": self.name,
            "layers": list(self.layers),
            "imgsz": _plain(self.imgsz),
            "confidence": self.confidence,
        }

    def parts(self, query: Item, how: str) -> list[Item]:
        """Cut an image into parts that search for themselves.

        Args:
            query: The image.
            how: ``"crops"`` cuts out each detection; ``"objects"`` takes the key of each detection inside the whole
                image; ``"tiles"`` cuts the image into 2 x 2.

        Returns:
            The parts; the image itself where nothing is detected.

        Raises:
            OptionError: If there are no such parts, or the model is no detector.
            DataError: If the image cannot be read.
        """
        one_of("ImageEncoder", "parts", how, PARTS)
        if how == "tiles":
            return tiles(query)
        found = self.detect(query)
        return [part(query, box, number, cut=how == "crops") for number, (box, _, _) in enumerate(found, 1)] or [query]

    def detect(self, item: Item) -> list[tuple[Box, int, float]]:
        """Return what the detector finds on an image: box in pixels of the file, class and score, the surest first.

        Raises:
            OptionError: If the model is no detector.
            DataError: If the image cannot be read.
        """
        prepared = self.subject.prepare(read_image(path_of(item)), self.imgsz)
        found = []
        for one in self.subject.find(prepared.tensor, self.confidence)[0]:
            left, top, right, bottom = prepared.back(one.box)
            found.append(((left, top, right, bottom), one.label, one.score))
        return found

    def keys(self, items: Sequence[Item], *, queries: bool = False, progress: Progress = SILENT) -> Iterator[Keys]:
        """Yield the keys of images and objects in batches; items of one image come together.

        An image that cannot be read is left out and named; one that asks is an error.

        Args:
            items: The items.
            queries: Whether they ask; they are encoded like those that are asked for.
            progress: Whom to tell how many are done and which are left out.

        Raises:
            DataError: If an item has no image, its box lies outside, or an image that asks cannot be read.
        """
        waiting: dict[tuple[int, ...], list[tuple[View, Tensor, list[Box]]]] = {}
        done = 0
        for view in views(items):
            try:
                image = read_image(view.path)
            except DataError as error:
                if queries:
                    raise
                tell(progress, f"{error}; it is left out")
                continue
            prepared = self.subject.prepare(view.of(image), self.imgsz)
            boxes = [] if view.cut else [_on_tensor(item, prepared) for item in view.items if box_of(item)]
            shape = tuple(prepared.tensor.shape[2:])
            waiting.setdefault(shape, []).append((view, prepared.tensor, boxes))
            if len(waiting[shape]) == self.batch:
                progress.started(f"encoding images, {done} of {len(items)} items done")
                found = self._encode(waiting.pop(shape))
                done += len(found)
                yield found
        for rest in waiting.values():
            yield self._encode(rest)

    def _encode(self, views: Sequence[tuple[View, Tensor, list[Box]]]) -> Keys:
        """Return the keys of all items of some views of one size."""
        images = torch.cat([tensor for _, tensor, _ in views])
        with self._recording() as (tape, pooled):
            self._run(images)
        mixed = [_map(tape[name]) for name in self.layers]  # (B, heads * dim, H, W) of each layer
        standard, size = pooled["standard"], images.shape[2:]
        whole = torch.cat([of_layer.mean((2, 3)) for of_layer in mixed], 1), _one_vector(standard)
        ids: list[str] = []
        heads, vectors = [], []
        for row, (view, _, boxes) in enumerate(views):
            asked = iter(boxes)
            for item in view.items:
                ids.append(item.id)
                box = None if view.cut or not box_of(item) else next(asked)
                if box is None:
                    heads.append(whole[0][row])
                    vectors.append(whole[1][row])
                else:
                    heads.append(torch.cat([_in_box(of_layer[row], box, size) for of_layer in mixed]))
                    vectors.append(self._standard_in_box(standard, row, box, size))
        array = torch.stack(heads).float().cpu().numpy().reshape(len(ids), self.heads, self.dim)
        return Keys(tuple(ids), array, torch.stack(vectors).float().cpu().numpy())

    def _standard_in_box(self, standard: Tensor, row: int, box: Box, size: Sequence[int]) -> Tensor:
        if standard.dim() != 4:
            raise OptionError(
                f"{self.name} pools before its last layer, so objects have no standard key inside an image; "
                "cut them out, with parts='crops' or the field cut"
            )
        return _in_box(standard[row], box, size)

    @property
    def _pooled(self) -> str:
        return f"{'input' if self.subject.enters else 'output'} of {self.subject.pooled}"

    def _recording(self) -> _Recording:
        return _Recording(self.subject)

    @torch.no_grad()
    def _run(self, images: Tensor) -> None:
        self.subject.network(images)


class _Recording:
    """Record the attentions of a model, and what its standard key is pooled from."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._found: dict[str, Tensor] = {}

    def __enter__(self) -> tuple[Tape, Mapping[str, Tensor]]:
        self._recorded = maps.record(self._subject.network, require=False)
        tape = self._recorded.__enter__()
        self._handle = self._subject.network.get_submodule(self._subject.pooled).register_forward_hook(self._note)
        return tape, self._found

    def __exit__(self, *error: Any) -> None:
        self._handle.remove()
        self._recorded.__exit__(*error)

    def _note(self, _module: nn.Module, args: Any, output: Any) -> None:
        self._found["standard"] = (args[0] if self._subject.enters else output).detach().clone()


def _over_cells(attention: RecordedAttention) -> bool:
    try:
        return attention.grid is not None
    except MapError:  # it did not run
        return False


def _chosen(names: Sequence[str], layers: int | str | Sequence[int | str] | None) -> tuple[str, ...]:
    """Return the paths of the attentions that were asked for."""
    if layers is None:
        return (([name for name in names if ".grafts." in name] or list(names))[-1],)
    asked = [layers] if isinstance(layers, (int, str)) else list(layers)
    found = []
    for layer in asked:
        if isinstance(layer, int) and -len(names) <= layer < len(names):
            found.append(names[layer])
        elif layer in names:
            found.append(str(layer))
        else:
            raise OptionError(f"this model has no attention {layer!r} over cells; {suggest(str(layer), names)}")
    if not found or len(set(found)) < len(found):
        raise OptionError(f"layers names each attention once, and at least one, got {layers!r}")
    return tuple(found)


def _on_tensor(item: Item, prepared: Any) -> Box:
    """Return the box of an item in pixels of the network's input."""
    box = box_of(item)
    assert box is not None
    left, top, right, bottom = (at * prepared.scale[i % 2] + prepared.offset[i % 2] for i, at in enumerate(box))
    return left, top, right, bottom


def _map(attention: RecordedAttention) -> Tensor:
    """Return what the heads of an attention mixed as a map ``(B, heads * dim, H, W)``."""
    mixed, grid = attention.mixed(), attention.grid
    assert grid is not None
    return mixed.transpose(2, 3).reshape(len(mixed), -1, *grid)


def _one_vector(value: Tensor) -> Tensor:
    """Pool a map ``(B, C, H, W)`` or tokens ``(B, N, C)`` to ``(B, C)``; a vector stays."""
    return value.mean((2, 3)) if value.dim() == 4 else value.mean(1) if value.dim() == 3 else value


def _in_box(of_image: Tensor, box: Box, size: Sequence[int]) -> Tensor:
    """Return the mean of a map ``(C, H, W)`` inside a box of the network's input, ``(C,)``, by RoIAlign."""
    steps = [of_image.shape[2] / size[1], of_image.shape[1] / size[0]]
    rows = of_image.new_tensor([[0.0, *(at * steps[i % 2] for i, at in enumerate(box))]])
    return roi_align(of_image[None], rows, 1, aligned=True)[0, :, 0, 0]


def _size(imgsz: Any) -> Size:
    """Take a side, or height and width in any sequence: an index writes a list."""
    return imgsz if isinstance(imgsz, int) else (int(imgsz[0]), int(imgsz[1]))


def _plain(imgsz: Size) -> Json:
    return imgsz if isinstance(imgsz, int) else list(imgsz)
