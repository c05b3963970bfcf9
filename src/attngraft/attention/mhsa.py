"""MHSA: let every cell attend to every other, by content and by where they stand to each other.

Paper: Bottleneck Transformers for Visual Recognition, Srinivas et al., CVPR 2021, arXiv 2101.11605.
Code: The authors' TensorFlow gist aravindsrinivas/56359b79f0ce4449bcb04ab4b56a57a2 (no licence); timm,
    layers/bottleneck_attn.py (Apache-2.0); leaderj1001/BottleneckTransformers, model.py (MIT); read for parity only.
Differs: Tables start from N(0, 1/d), which the authors' correction asks for; their code draws them from
    N(1/sqrt(d), 0.05^2), by passing the deviation as the mean. Tables of one size serve maps of any size: their centre
    on smaller maps, interpolated on larger ones; the paper's fit one size. position="circulated" gives the numbers of
    the class that is pasted into YOLO copies, which is not the paper's operator: its position logits are transposed,
    unscaled, and not the same for the same offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attngraft._core.checks import divides, is_tracing, one_of, positive
from attngraft._core.errors import OptionError
from attngraft._core.registry import register
from attngraft.attention._base import Attention
from attngraft.attention._copied import telling
from attngraft.attention._kernels import attend
from attngraft.attention._offsets import Offsets
from attngraft.attention._positions import resample
from attngraft.attention._rows import Cells, Mixture, choose, query_cells, softmax
from attngraft.attention._tokens import fit_heads

POSITIONS = ("relative", "absolute", "circulated", "none")


@register(
    role="mixer",
    family="global self-attention",
    year=2021,
    formula="softmax_j(q_i . (k_j + r_height[y_j - y_i] + r_width[x_j - x_i]) / sqrt(d)) v_j",
    cost="3*C**2*N + 2*C*N**2 + relative*C*N*(2*H + 2*W - 2) + circulated*C*N**2",
    row=("width", "height", "heads", "pos_emb"),
    signatures=(("heads",),),
    growth="N",
)
class MHSA(Attention):
    """Mix all cells of a map by multi-head self-attention with 2-D positions, as BoTNet does.

    With C = heads * d, and q, k, v from one 1x1 convolution, the logits of query i and key j are

    - relative: ``q_i . (k_j + height[y_j - y_i] + width[x_j - x_i]) / sqrt(d)``, tables shared by the heads;
    - absolute: ``q_i . (k_j + height[y_j] + width[x_j]) / sqrt(d)``, tables shared by the heads;
    - circulated: ``q_i . k_j + (height[y_i] + width[x_i]) . q_j``, tables of each head;
    - none: ``q_i . k_j / sqrt(d)``.

    A map smaller than ``size`` uses the tables' centre, a larger one interpolates them linearly, each axis for itself;
    the circulated form, as its class does, lays the cells of its tables in a line and takes the first N of them. Maps
    may change from call to call. Memory grows with N: outside export, a tensor of N x N elements is made only in
    training, and only where a row of it is at most 8 times as long as a head's vectors. A file that is exported on the
    CPU computes as many slices of the queries as its example asks for.

    ``load_state_dict`` also takes the keys of the circulated class, and a pickled instance of it becomes one of this
    class where its import path leads here. Its copies with ``pos_emb=False`` are ``position="none", bias=True,
    scale=False``.

    Args:
        channels: Number of channels C.
        heads: Number of heads; it must divide C.
        position: ``"relative"`` (the paper's), ``"absolute"``, ``"circulated"`` or ``"none"``.
        size: Rows and columns of the map that the tables are made for, ``(H, W)`` or one number for both.
        bias: Whether q, k and v have biases; None means only in the circulated form.
        scale: Whether logits are divided by sqrt(d); None means everywhere but in the circulated form.

    Shape:
        - Input: ``(B, C, H, W)``
        - Output: ``(B, C, H, W)``

    Raises:
        OptionError: If ``heads`` does not divide ``channels``, or an option is none of the values above.

    Example:
        >>> attention = MHSA(64, heads=4, size=(20, 20))
        >>> [tuple(attention(torch.randn(1, 64, *size)).shape) for size in ((20, 20), (7, 5), (24, 40))]
        [(1, 64, 20, 20), (1, 64, 7, 5), (1, 64, 24, 40)]
    """

    mixture = Mixture(enters="")

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 4,
        position: str = "relative",
        size: int | tuple[int, int] = (20, 20),
        bias: bool | None = None,
        scale: bool | None = None,
    ) -> None:
        super().__init__(channels)
        divides("MHSA", "heads", heads, channels)
        one_of("MHSA", "position", position, POSITIONS)
        height, width = _both_axes(size)
        self.heads = heads
        self.position = position
        self.size = (height, width)
        self.relative = int(position == "relative")  # numbers, for the cost formula
        self.circulated = int(position == "circulated")
        self.bias = bool(self.circulated) if bias is None else bias
        self.scale = not self.circulated if scale is None else scale
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=self.bias)  # channels: of each head, d of q, k, v
        if position != "none":
            rows = (2 * height - 1, 2 * width - 1) if self.relative else (height, width)
            tables = (torch.empty(heads if self.circulated else 1, n, channels // heads) for n in rows)
            self.height_table, self.width_table = (nn.Parameter(table) for table in tables)  # (g, rows, d)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: q, k, v from N(0, 0.01^2) and tables from N(0, 1/d); the circulated form keeps its own."""
        head_dim = self.channels // self.heads
        if self.circulated:
            self.qkv.reset_parameters()
        else:
            nn.init.normal_(self.qkv.weight, std=0.01)
            if self.qkv.bias is not None:
                nn.init.zeros_(self.qkv.bias)
        if self.position != "none":
            for table in (self.height_table, self.width_table):
                nn.init.normal_(table, std=1.0 if self.circulated else head_dim**-0.5)

    @classmethod
    def fit(cls, channels: int) -> dict[str, Any]:
        """Lower ``heads`` where 4 does not divide the width."""
        return fit_heads(channels, 4)

    @classmethod
    def from_row(cls, channels: int, *values: Any) -> dict[str, Any]:
        """Name the values of a row ``[width, height, heads]``.

        What the circulated class calls width are the rows of its map, so the first value is H. A fourth value, its
        ``pos_emb``, chooses between relative positions and none.
        """
        row = super().from_row(channels, *values)
        options = {"heads": row["heads"]} if row.get("heads") is not None else {}
        if row.get("width") is not None:
            options["size"] = (row["width"], row.get("height", row["width"]))
        if row.get("pos_emb") is not None:
            options["position"] = "relative" if row["pos_emb"] else "none"
        return options

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed map."""
        self.check(x)
        q, k, v, offsets = self._vectors(x)
        return attend(q, k, v, scale=self._factor(), offsets=offsets).reshape(x.shape)  # (B, h, d, N) to a map

    def attention_rows(self, x: Tensor, cells: Cells = None) -> Tensor:
        """Return the weights with which chosen cells gathered all values, ``(B, h, Q, N)``."""
        q, k, _, offsets = self._vectors(x)
        B, _, H, W = x.shape
        index = query_cells(cells, B, H * W, x.device)
        q = choose(q.transpose(2, 3), index) * self._factor()  # (B, h, Q, d)
        logits = q @ k  # (B, h, Q, N)
        if offsets is not None:
            rows, columns = index // W, index % W
            to_row = _towards(q, offsets.by_row, rows, H)  # (B, h, Q, H)
            to_column = _towards(q, offsets.by_column, columns, W)  # (B, h, Q, W)
            logits = logits + (to_row.unsqueeze(4) + to_column.unsqueeze(3)).flatten(3)
        return softmax(logits)

    def attention_values(self, x: Tensor) -> Tensor:
        """Return what the weights mix, ``(B, h, N, d)``; the mixture is the output."""
        return self._vectors(x)[2].transpose(2, 3)

    def _factor(self) -> float:
        return (self.channels // self.heads) ** -0.5 if self.scale else 1.0

    def _vectors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Offsets | None]:
        """Return q, k and v, ``(B, h, d, N)``, q and k twice as wide in the circulated form, and relative positions."""
        B, _, H, W = x.shape
        head_dim = self.channels // self.heads
        q, k, v = self.qkv(x).reshape(B, self.heads, 3, head_dim, H * W).unbind(2)  # (B, h, d, N)
        offsets = None
        if self.relative:
            by_row, by_column = resample(self.height_table, 2 * H - 1), resample(self.width_table, 2 * W - 1)
            offsets = Offsets(by_row[0], by_column[0], H, W)
        elif self.position == "absolute":
            k = k + self._place(H, W).to(k.dtype)
        elif self.circulated:
            # q_i . k_j + r_i . q_j is one product of vectors twice as long.
            place = self._in_line(H, W).to(q.dtype).expand(B, -1, -1, -1)
            q, k = torch.cat((q, place), 2), torch.cat((k, q), 2)  # (B, h, 2d, N)
        return q, k, v, offsets

    def _place(self, H: int, W: int) -> Tensor:
        """Return the vectors of absolute positions, ``(g, d, N)`` for ``g`` of 1 or all heads."""
        rows, columns = resample(self.height_table, H), resample(self.width_table, W)
        return (rows.unsqueeze(2) + columns.unsqueeze(1)).flatten(1, 2).transpose(1, 2)

    def _in_line(self, H: int, W: int) -> Tensor:
        """Return the circulated form's positions, ``(h, d, N)``: of a map with more cells than the tables, as `_place`.

        The circulated class has no positions for such a map.
        """
        count = self.size[0] * self.size[1]
        if is_tracing():
            cells, line = torch.arange(H * W, device=self.height_table.device), self._place(*self.size)  # (h, d, count)
            return torch.where(cells[-1] < count, line[..., cells % count], self._place(H, W))
        return self._place(*self.size)[..., : H * W] if count >= H * W else self._place(H, W)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        if f"{prefix}query.weight" in state_dict:
            options = circulated_options(state_dict, prefix)
            if any(getattr(self, name) != value for name, value in options.items()):
                wanted = ", ".join(f"{name}={value!r}" for name, value in options.items())
                error_msgs.append(
                    f"{prefix or 'this state'} is of the circulated MHSA; build MHSA({self.channels}, {wanted})"
                )
                return
            translate_circulated(state_dict, prefix, self.heads)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a pickled state, of this class or of the circulated one."""
        own = _state_of_circulated(state) if "query" in state["_modules"] else state
        super().__setstate__(own)  # type: ignore[no-untyped-call]


def _both_axes(size: Any) -> tuple[int, int]:
    axes = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(axes) != 2:
        raise OptionError(f"MHSA needs size to be one number or (H, W), got {size!r}")
    positive("MHSA", height=axes[0], width=axes[1])
    return axes


def _towards(q: Tensor, table: Tensor, places: Tensor, size: int) -> Tensor:
    """Return the position logits of chosen queries towards each place of an axis, ``(B, h, Q, size)``.

    Args:
        q: ``(B, h, Q, d)``.
        table: Vectors of all offsets along the axis, ``(2 * size - 1, d)``.
        places: Where along the axis each query stands, ``(B, Q)``.
        size: Cells along the axis.
    """
    reach = q @ table.to(q.dtype).t()  # (B, h, Q, 2 * size - 1)
    offset = torch.arange(size, device=q.device) - places.unsqueeze(2) + (size - 1)  # (B, Q, size)
    return reach.gather(3, offset.unsqueeze(1).expand(-1, q.shape[1], -1, -1))


# -- the circulated class: leaderj1001's, and its YOLO copies, which append _weight to the tables' names ---------------

_TABLE_NAMES = (("rel_w", "rel_h"), ("rel_w_weight", "rel_h_weight"))
"""Names of its tables over rows and over columns: what it calls width is the axis H of the map."""


def circulated_options(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Any]:
    """Return the options of `MHSA` that give the numbers of a circulated state.

    Args:
        state: A state dict that holds ``query.weight`` and the rest under ``prefix``.
        prefix: What its keys begin with.
    """
    names = _circulated_tables(state, prefix)
    if names is None:
        return {"position": "none", "bias": True, "scale": False}
    rows, columns = (state[name] for name in names)  # (1, h, d, H, 1), (1, h, d, 1, W)
    size = (rows.shape[3], columns.shape[4])
    return {"position": "circulated", "heads": rows.shape[1], "size": size, "bias": True, "scale": False}


def translate_circulated(state: dict[str, Any], prefix: str, heads: int) -> None:
    """Rename and reorder the tensors of a circulated state for `MHSA`, in place.

    Args:
        state: The state dict.
        prefix: What the keys to translate begin with.
        heads: Number of heads, which a state without tables does not tell.
    """
    for kind in ("weight", "bias"):
        parts = [state.pop(f"{prefix}{name}.{kind}").unflatten(0, (heads, -1)) for name in ("query", "key", "value")]
        state[f"{prefix}qkv.{kind}"] = torch.stack(parts, 1).flatten(0, 2)  # (h, 3, d, ...)
    names = _circulated_tables(state, prefix)
    if names is not None:
        for name, table in zip(names, ("height_table", "width_table"), strict=True):
            state[prefix + table] = state.pop(name)[0].flatten(2).transpose(1, 2).contiguous()  # (h, rows, d)


def _circulated_tables(state: Mapping[str, Tensor], prefix: str) -> tuple[str, str] | None:
    candidates = ((prefix + rows, prefix + columns) for rows, columns in _TABLE_NAMES)
    return next((names for names in candidates if names[0] in state), None)


def _state_of_circulated(state: dict[str, Any]) -> dict[str, Any]:
    """Turn the pickled ``__dict__`` of a circulated instance into that of an `MHSA`.

    Raises:
        OptionError: If the instance has a part that the circulated class does not have.
    """
    if other := _not_circulated(state):
        raise OptionError(
            f"MHSA takes the state of the circulated class, got one with {', '.join(other)}; "
            "open it where its own class is installed"
        )
    convolutions = {name: state["_modules"][name] for name in ("query", "key", "value")}
    tensors = {f"{name}.{key}": t for name, conv in convolutions.items() for key, t in conv.state_dict().items()}
    tensors |= {name: table.detach() for name, table in state["_parameters"].items()}
    weight = convolutions["query"].weight
    module = MHSA(weight.shape[0], **{"heads": state["heads"], **circulated_options(tensors)})
    module.to(weight.device, weight.dtype).load_state_dict(tensors)
    module.train(state["training"]).requires_grad_(weight.requires_grad)
    # Hooks, and what a host noted on the instance (Ultralytics: i, f, type, np), stay.
    replaced = {"_parameters", "_buffers", "_modules", "heads", "pos", "training"}
    return {**vars(module), **{key: value for key, value in state.items() if key not in replaced}}


def _not_circulated(state: Mapping[str, Any]) -> list[str]:
    """Name the parts by which an instance computes something else, such as an output projection or a scale."""
    parts = {name: part for name, part in state["_modules"].items() if part is not None}
    other = [name for name in ("query", "key", "value") if not _is_pointwise(parts.pop(name))]
    other += [name for name, part in parts.items() if not _is_softmax(part)]
    other += [name for name, part in state["_buffers"].items() if part is not None]
    # A factor may be meant for all logits or only for those of content, which no state tells.
    return other + telling(state, known=("pos", "pos_emb"))


def _is_pointwise(layer: Any) -> bool:
    if type(layer) is not nn.Conv2d:
        return False
    return (layer.kernel_size, layer.stride, layer.padding, layer.groups) == ((1, 1), (1, 1), (0, 0), 1)


def _is_softmax(part: Any) -> bool:
    return type(part) is nn.Identity or (type(part) is nn.Softmax and part.dim in (-1, 3))
