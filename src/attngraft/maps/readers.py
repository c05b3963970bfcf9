"""How the attention inside a module is read: ours by its own methods, the detectors' own by their structure.

No detector is imported: its attentions are known by the parts they are made of, so that a fused model, a subclass and a
checkpoint of another release are read alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.errors import MapError
from attngraft.attention._precision import at_least_single
from attngraft.attention._rows import Cells, Mixture, chosen_logits, near_rows, query_cells, softmax, spread
from attngraft.attention._rows import corners as sample_corners
from attngraft.attention._tokens import to_heads, to_tokens

Grid = tuple[int, int]
"""Rows and columns of a map."""


class Reader:
    """Read one attention of a model from what it was called with.

    This one reads the mechanisms of the zoo, and a user's own with ``attention_rows(x, cells)``; each of the others
    reads one attention of a detector.

    Args:
        module: The attention.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module: Any = module
        self.mixture: Mixture | None = getattr(module, "mixture", None)
        self._width: int | None = None

    @staticmethod
    def knows(module: nn.Module) -> bool:
        """Tell whether this reader is made for a module.

        A block that only passes on what the attention inside it says is left to that.
        """
        kind = type(module)  # a module looks long for an attribute that it lacks
        return hasattr(kind, "attention_rows") and (
            hasattr(kind, "mixture")
            or not any(hasattr(type(part), "attention_rows") for part in module.modules() if part is not module)
        )

    def keep(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return copies of what a call gave that the weights depend on."""
        return (_copy(args[0] if args else next(iter(kwargs.values()))),)

    def grid(self, kept: tuple[Any, ...]) -> Grid | None:
        """Return rows and columns of the map whose cells ask; None where the queries are no cells."""
        down, right = getattr(self.module, "map_axes", (2, 3))
        return int(kept[0].shape[down]), int(kept[0].shape[right])

    def key_grids(self, kept: tuple[Any, ...]) -> tuple[Grid, ...]:
        """Return rows and columns of the maps that are asked, whose cells follow each other along N."""
        grid = self.grid(kept)
        assert grid is not None
        return (grid,)

    def rows(self, kept: tuple[Any, ...], cells: Cells) -> Tensor:
        """Return the weights of chosen queries, ``(B, h, Q, N)``."""
        rows: Tensor = self.module.attention_rows(*kept, cells)
        return rows

    def values(self, kept: tuple[Any, ...]) -> Tensor:
        """Return what the weights mix, ``(B, h, N, e)``."""
        if not hasattr(self.module, "attention_values"):
            raise MapError(
                f"{type(self.module).__name__} says what it weighed but not what it mixed; "
                "give it attention_values(x) of shape (B, heads, N, e)"
            )
        values: Tensor = self.module.attention_values(*kept)
        return values

    def mixed(self, entered: Tensor, kept: tuple[Any, ...]) -> Tensor:
        """Lay out what the heads mixed, with what the module adds to it, as ``(B, h, N, e)``.

        Args:
            entered: What `mixture` names.
            kept: What was kept of the call.
        """
        if self._width is None:
            self._width = int(self.values(kept).shape[3])  # of the weights alone: asked once
        return Reader.mixture_gradient(self, entered, kept, self._width)

    def mixture_gradient(self, gradient: Tensor, kept: tuple[Any, ...], width: int) -> Tensor:
        """Lay out a gradient of the mixture as ``(B, h, N, e)``.

        Args:
            gradient: With respect to what `mixture` names.
            kept: What was kept of the call.
            width: Channels of a head, e.
        """
        assert self.mixture is not None
        layout, grid = self.mixture.layout, self.grid(kept)
        if layout == "map":
            gradient = to_tokens(gradient)  # (B, N, C)
        elif layout == "cells" and grid is not None:
            gradient = gradient[:, : grid[0], : grid[1]].flatten(1, 2)
        elif layout == "pooled" and grid is not None:
            gradient = gradient.unsqueeze(1).expand(-1, grid[0] * grid[1], -1)
        return to_heads(gradient, gradient.shape[2] // width)


class PSAReader(Reader):
    """Read the attention inside C2PSA and its kin: YOLOv10, YOLO11, YOLO26.

    Rows leave out the positional convolution of the values, which the module adds to the mixture.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.mixture = Mixture()

    @staticmethod
    def knows(module: nn.Module) -> bool:
        """Tell whether a module is one."""
        return _has(module, parts=("qkv", "proj", "pe"), numbers=("num_heads", "key_dim", "head_dim", "scale"))

    def rows(self, kept: tuple[Any, ...], cells: Cells) -> Tensor:
        """Return the weights of chosen cells, ``(B, h, Q, N)``."""
        q, k, _ = self._vectors(kept[0])
        return softmax(chosen_logits(q.transpose(2, 3), k.transpose(2, 3), cells, self.module.scale)[1])

    def values(self, kept: tuple[Any, ...]) -> Tensor:
        """Return the values, ``(B, h, N, head_dim)``."""
        return self._vectors(kept[0])[2].transpose(2, 3)

    def _vectors(self, x: Tensor) -> tuple[Tensor, ...]:
        sizes = (self.module.key_dim, self.module.key_dim, self.module.head_dim)
        qkv: Tensor = self.module.qkv(x)
        return torch.unflatten(qkv.flatten(2), 1, (self.module.num_heads, -1)).split_with_sizes(
            sizes, 2
        )  # (B, h, d, N)


class AreaReader(Reader):
    """Read the area attention of YOLO12.

    Rows are zero outside a cell's strip and leave out the positional convolution of the values, which is added.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.mixture = Mixture()

    @staticmethod
    def knows(module: nn.Module) -> bool:
        """Tell whether a module is one."""
        return _has(module, parts=("qkv", "proj", "pe"), numbers=("num_heads", "area", "head_dim"))

    def rows(self, kept: tuple[Any, ...], cells: Cells) -> Tensor:
        """Return the weights of chosen cells, ``(B, h, Q, N)``."""
        q, k, _ = self._vectors(kept[0])
        N = q.shape[2]
        index, logits = chosen_logits(q, k, cells, q.shape[3] ** -0.5)
        length = N // self.module.area
        strip = index.unsqueeze(2) // length * length + torch.arange(length, device=q.device)  # (B, Q, length)
        keys = strip.unsqueeze(1)
        return near_rows(logits, keys, keys < N)

    def values(self, kept: tuple[Any, ...]) -> Tensor:
        """Return the values, ``(B, h, N, head_dim)``."""
        return self._vectors(kept[0])[2]

    def _vectors(self, x: Tensor) -> tuple[Tensor, ...]:
        tokens: Tensor = to_tokens(self.module.qkv(x))  # (B, N, 3C), of each head q, k and v in turn
        return to_heads(tokens, self.module.num_heads).chunk(3, 3)  # (B, h, N, d)


class EncoderReader(Reader):
    """Read the AIFI layer of RT-DETR, a transformer encoder layer over the cells of one map.

    Rows are the attention's alone: residuals, norms and MLP come after it.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.mixture = Mixture("ma", "tokens")

    @staticmethod
    def knows(module: nn.Module) -> bool:
        """Tell whether a module is one."""
        ma = module._modules.get("ma")
        return isinstance(ma, nn.MultiheadAttention) and hasattr(type(module), "build_2d_sincos_position_embedding")

    def rows(self, kept: tuple[Any, ...], cells: Cells) -> Tensor:
        """Return the weights of chosen cells, ``(B, h, Q, N)``."""
        q, k, _ = self._vectors(kept[0])
        return softmax(chosen_logits(q, k, cells, q.shape[3] ** -0.5)[1])

    def values(self, kept: tuple[Any, ...]) -> Tensor:
        """Return the values, ``(B, h, N, d)``."""
        return self._vectors(kept[0])[2]

    def mixed(self, entered: Tensor, kept: tuple[Any, ...]) -> Tensor:
        """Attend once more: PyTorch's module keeps to itself what its heads mix, ``(B, h, N, d)``."""
        q, k, v = self._vectors(kept[0])
        return nn.functional.scaled_dot_product_attention(q, k, v)

    def mixture_gradient(self, gradient: Tensor, kept: tuple[Any, ...], width: int) -> Tensor:
        """Take a gradient of the attention's output back through its projection, ``(B, h, N, d)``."""
        return to_heads(gradient @ self.module.ma.out_proj.weight, gradient.shape[2] // width)

    def _vectors(self, x: Tensor) -> tuple[Tensor, ...]:
        C, H, W = x.shape[1:]
        positions = self.module.build_2d_sincos_position_embedding(W, H, C, like=x).to(x)
        tokens = to_tokens(x)  # (B, N, C)
        if self.module.normalize_before:
            tokens = self.module.norm1(tokens)
        ma: nn.MultiheadAttention = self.module.ma
        assert ma.in_proj_weight is not None
        weights = ma.in_proj_weight.chunk(3)
        biases = (None,) * 3 if ma.in_proj_bias is None else ma.in_proj_bias.chunk(3)
        parts = (tokens + positions, tokens + positions, tokens)
        return tuple(
            to_heads(nn.functional.linear(part, weight, bias), ma.num_heads)
            for part, weight, bias in zip(parts, weights, biases, strict=True)
        )


class DeformableReader(Reader):
    """Read the deformable cross-attention of RT-DETR's decoder.

    Its queries are the decoder's, not cells; its keys are the cells of all levels, level by level. A sampling point
    lies between cells and is spread over them by its bilinear weights; the mass that a row lacks fell off the maps.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.mixture = Mixture("output_proj", "tokens")

    @staticmethod
    def knows(module: nn.Module) -> bool:
        """Tell whether a module is one."""
        parts = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
        return _has(module, parts=parts, numbers=("n_heads", "n_levels", "n_points"))

    def keep(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return queries, reference boxes, what is sampled, the sizes of its levels, and which cells are padding."""
        names = ("query", "refer_bbox", "value", "value_shapes", "value_mask")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        query, boxes, value = (_copy(given[name]) for name in names[:3])
        shapes = tuple((int(height), int(width)) for height, width in given["value_shapes"])
        mask = given.get("value_mask")
        return query, boxes, value, shapes, None if mask is None else _copy(mask)

    def grid(self, kept: tuple[Any, ...]) -> None:
        """Return None: the queries are no cells."""

    def key_grids(self, kept: tuple[Any, ...]) -> tuple[Grid, ...]:
        """Return the sizes of the levels."""
        grids: tuple[Grid, ...] = kept[3]
        return grids

    def rows(self, kept: tuple[Any, ...], cells: Cells) -> Tensor:
        """Return the weights of chosen queries, ``(B, h, Q, N)``."""
        query, boxes, _, shapes, _ = kept
        index = query_cells(cells, len(query), query.shape[1], query.device)
        query = query.gather(1, index.unsqueeze(2).expand(-1, -1, query.shape[2]))  # (B, Q, C)
        boxes = boxes.gather(1, index[:, :, None, None].expand(-1, -1, *boxes.shape[2:]))
        heads, levels, points = self.module.n_heads, self.module.n_levels, self.module.n_points
        weights = softmax(self.module.attention_weights(query).unflatten(2, (heads, -1)))  # (B, Q, h, levels * points)
        places = self._places(query, boxes, shapes) * 2 - 1  # (B, Q, h, levels, points, 2)
        parts = []
        for level, (height, width) in enumerate(shapes):
            near, shares = sample_corners(places[:, :, :, level], height, width, align=False)  # (B, Q, h, points, 4)
            of_level = torch.unflatten(weights, 3, (levels, points))[:, :, :, level].unsqueeze(
                3
            )  # (B, Q, h, 1, points)
            parts.append(spread(of_level, near.unsqueeze(3), shares.unsqueeze(3), height * width).squeeze(3))
        return torch.cat(parts, 3).transpose(1, 2)  # (B, h, Q, N)

    def values(self, kept: tuple[Any, ...]) -> Tensor:
        """Return the values of the cells of all levels, ``(B, h, N, d)``."""
        value: Tensor = self.module.value_proj(kept[2])
        if kept[4] is not None:
            value = value.masked_fill(kept[4].unsqueeze(2), 0.0)
        return to_heads(value, self.module.n_heads)

    def _places(self, query: Tensor, boxes: Tensor, shapes: tuple[Grid, ...]) -> Tensor:
        """Return the sampling points of each query, 0 and 1 the edges of a map, ``(B, Q, h, levels, points, 2)``."""
        module = self.module
        offsets = module.sampling_offsets(query).unflatten(2, (module.n_heads, module.n_levels, module.n_points, 2))
        boxes = at_least_single(boxes)[:, :, None, :, None]  # (B, Q, 1, levels or 1, 1, 2 or 4)
        if boxes.shape[-1] == 2:
            sizes = torch.tensor(shapes, device=query.device).flip(1)[:, None]  # (levels, 1, 2) as (width, height)
            return boxes + offsets / sizes
        return boxes[..., :2] + offsets / module.n_points * boxes[..., 2:] * 0.5


READERS: tuple[type[Reader], ...] = (Reader, PSAReader, AreaReader, EncoderReader, DeformableReader)


def reader(module: nn.Module) -> Reader | None:
    """Return what reads a module's attention, or None where nothing does."""
    return next((kind(module) for kind in READERS if kind.knows(module)), None)


def _copy(value: Tensor) -> Tensor:
    """Keep a tensor as it is now: what comes after may overwrite it in place."""
    return value.detach().clone()


def _has(module: nn.Module, *, parts: Sequence[str], numbers: Sequence[str]) -> bool:
    return all(part in module._modules for part in parts) and all(
        isinstance(module.__dict__.get(number), (int, float)) for number in numbers
    )
