"""MHSA and its kernels beside what people use: time and memory, forward and forward+backward.

    python benchmarks/mhsa.py            about 7 minutes of one free core
    python benchmarks/mhsa.py --quick    under a minute, small maps only, nothing written

The first part compares kernels on given q, k, v and tables, the second kernels without positions, the third whole
modules with their projections. Errors are those of the outputs, against the tiled kernel in float64.
The table is written after each case, so that what is finished stays.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from _timing import RESULTS, Case, Contender, compare, table, write
from torch import Tensor, nn

from attngraft.attention import MHSA, chosen_kernel
from attngraft.attention._kernels import KERNELS
from attngraft.attention._offsets import Offsets
from attngraft.measure import environment

# Name, batch, channels, heads, side of the map, and who is left out, being as slow and large as the first there.
KERNEL_CASES = [
    ("P5 20x20, 256 channels, 4 heads", 1, 256, 4, 20, ()),
    ("P5 20x20, 256 channels, 4 heads, batch 8", 8, 256, 4, 20, ()),
    ("c5 14x14, 512 channels, 4 heads", 1, 512, 4, 14, ()),
    ("P4 40x40, 128 channels, 4 heads", 1, 128, 4, 40, ()),
    ("P4 40x40, 256 channels, 4 heads", 1, 256, 4, 40, ()),
    ("P3 80x80, 128 channels, 4 heads", 1, 128, 4, 80, ("factored", "sliced", "augmented")),
]
PLAIN_CASES = [
    ("P5 20x20, 256 channels, 4 heads, batch 8", 8, 256, 4, 20, ()),
    ("P4 40x40, 128 channels, 4 heads", 1, 128, 4, 40, ()),
    ("P4 40x40, 256 channels, 4 heads", 1, 256, 4, 40, ()),
    ("P3 80x80, 128 channels, 4 heads", 1, 128, 4, 80, ()),
]
MODULE_CASES = [
    ("P5 20x20, 256 channels", 1, 256, 4, 20, ()),
    ("P5 20x20, 256 channels, batch 16", 16, 256, 4, 20, ()),
    ("P4 40x40, 256 channels", 1, 256, 4, 40, ()),
    ("P4 40x40, 256 channels, batch 16", 16, 256, 4, 40, ("timm BottleneckAttn",)),
    ("P3 80x80, 128 channels", 1, 128, 4, 80, ("timm BottleneckAttn",)),
    ("P3 80x80, 256 channels", 1, 256, 4, 80, ("timm BottleneckAttn",)),
]

ROUNDINGS = 4
"""How many times the half precisions may be rounded, of the largest output, where forms must agree."""


class Textbook(nn.Module):
    """Relative attention on ``(B, h, N, d)`` with all position logits, from products padded and cut to shift rows."""

    def __init__(self, H: int, W: int) -> None:
        super().__init__()
        self.H, self.W = H, W

    def forward(self, q: Tensor, k: Tensor, v: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
        B, h, N, d = q.shape
        H, W = self.H, self.W
        q = q * d**-0.5
        cells = q.reshape(B * h, H, W, d)
        columns = self.shift((cells @ by_column.t()).flatten(0, 1), W).reshape(B, h, H, 1, W, W)
        rows = self.shift((cells.transpose(1, 2) @ by_row.t()).flatten(0, 1), H).reshape(B, h, W, 1, H, H)
        columns = columns.expand(-1, -1, -1, H, -1, -1).permute(0, 1, 2, 4, 3, 5).reshape(B, h, N, N)
        rows = rows.expand(-1, -1, -1, W, -1, -1).permute(0, 1, 4, 2, 5, 3).reshape(B, h, N, N)
        return (q @ k.transpose(2, 3) + rows + columns).softmax(3) @ v

    @staticmethod
    def shift(logits: Tensor, size: int) -> Tensor:
        """Turn products with all offsets, ``(n, size, 2 * size - 1)``, into those with all keys."""
        padded = F.pad(F.pad(logits, (0, 1)).flatten(1), (0, size - 1))
        return padded.reshape(-1, size + 1, 2 * size - 1)[:, :size, size - 1 :]


class Kernel(nn.Module):
    """One of the package's kernels, on ``(B, h, d, N)``; without positions where no tables are given."""

    def __init__(self, run: Callable[..., Tensor], H: int, W: int) -> None:
        super().__init__()
        self.run, self.H, self.W = run, H, W

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *tables: Tensor) -> Tensor:
        offsets = Offsets(*tables, self.H, self.W) if tables else None
        return self.run(q, k, v, q.shape[2] ** -0.5, offsets)


class Fused(nn.Module):
    """PyTorch's fused attention on ``(B, h, N, d)``, without positions: the floor."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


class Circulated(nn.Module):
    """The class that is pasted into YOLO copies: unscaled, transposed absolute positions, three convolutions."""

    def __init__(self, channels: int, heads: int, H: int, W: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))
        self.rows = nn.Parameter(torch.randn(1, heads, channels // heads, H, 1))
        self.columns = nn.Parameter(torch.randn(1, heads, channels // heads, 1, W))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (conv(x).flatten(2).unflatten(1, (self.heads, -1)) for conv in (self.query, self.key, self.value))
        position = (self.rows + self.columns).flatten(3).transpose(2, 3) @ q
        attention = (q.transpose(2, 3) @ k + position).softmax(3)
        return (v @ attention.transpose(2, 3)).reshape(x.shape)


class FusedModule(nn.Module):
    """One 1x1 convolution and PyTorch's fused attention, without positions."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).flatten(2).unflatten(1, (self.heads, 3, -1)).transpose(3, 4)  # (B, h, 3, N, d)
        out = F.scaled_dot_product_attention(*(t.contiguous() for t in qkv.unbind(2)))
        return out.transpose(2, 3).reshape(x.shape)


class Tokens(nn.Module):
    """`torch.nn.MultiheadAttention` on a map's cells, without positions and with its output projection."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        out, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return out.transpose(1, 2).reshape(x.shape)


def compared(kind: dict[str, object]) -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """Yield the names and the kernels that run on this device; in bfloat16, `blocked` in both of its precisions."""
    for name, run in KERNELS.items():
        if kind["device"] != "cpu" and name == "blocked":
            continue
        if kind["device"] == "cpu" and name == "flex":  # FlexAttention has no gradient on the CPU
            continue
        if name == "blocked" and kind["dtype"] == torch.bfloat16:
            yield "blocked, products of float32", partial(run, half=False)
            yield "blocked, products of bfloat16", partial(run, half=True)
        else:
            yield name, run


def tensors(batch: int, channels: int, heads: int, side: int, kind: dict[str, object]) -> tuple[Tensor, ...]:
    """Draw q, k and v, ``(B, h, d, N)``, and both tables."""
    d = channels // heads
    q, k, v = (torch.randn(batch, heads, d, side * side, **kind) for _ in range(3))
    tables = (torch.randn(2 * side - 1, d, **kind) * d**-0.5 for _ in range(2))
    return tuple(t.requires_grad_() for t in (q, k, v, *tables))


def along(across: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Turn ``(B, h, d, N)`` into ``(B, h, N, d)``, as stock operators want it."""
    return tuple(t.detach().transpose(2, 3).contiguous().requires_grad_() for t in across)


def kernels(batch: int, channels: int, heads: int, side: int, kind: dict[str, object]) -> Iterator[Contender]:
    """Yield the textbook, the package's kernels and the floor, on the same numbers."""
    q, k, v, *tables = tensors(batch, channels, heads, side, kind)
    yield Contender("textbook", Textbook(side, side), (*along((q, k, v)), *tables))
    for name, run in compared(kind):
        yield Contender(name, Kernel(run, side, side), (q, k, v, *tables))
    yield Contender("fused, no positions", Fused(), along((q, k, v)))


def plain(batch: int, channels: int, heads: int, side: int, kind: dict[str, object]) -> Iterator[Contender]:
    """Yield fused attention and the package's kernels, all without positions."""
    q, k, v, *_ = tensors(batch, channels, heads, side, kind)
    yield Contender("fused", Fused(), along((q, k, v)))
    for name, run in compared(kind):
        if name not in ("augmented", "sliced", "factored"):  # the fused call itself then, and forms for export
            yield Contender(name, Kernel(run, side, side), (q, k, v))


def errors(contenders: list[Contender]) -> dict[str, float]:
    """Return the error of each kernel's output against `tiled` in float64, which the tests hold to the definition."""
    ours = [c for c in contenders if isinstance(c.module, Kernel)]
    if not ours:
        return {}
    exactly = {"device": "cpu", "dtype": torch.float64}
    H, W, given = ours[0].module.H, ours[0].module.W, ours[0].example  # the same for all
    with torch.no_grad():
        right = Kernel(KERNELS["tiled"], H, W)(*(t.to(**exactly) for t in given))
        found = {c.name: c.module(*c.example).to(**exactly) for c in ours}
    return {name: float((out - right).norm() / right.norm()) for name, out in found.items()}


def require_equal(contenders: list[Contender]) -> None:
    """Stop unless every kernel gives the first's numbers, of single precision and up to roundings of its own."""
    first, *others = (c for c in contenders if isinstance(c.module, (Textbook, Fused, Kernel)))
    if len(first.example) > 3:  # what has no positions gives other numbers
        others = [c for c in others if not isinstance(c.module, Fused)]
    with torch.no_grad():
        expected = first.module(*(t.float() for t in first.example))
        most = ROUNDINGS * torch.finfo(first.example[0].dtype).eps * expected.abs().max().item()
        for other in others:
            out = other.module(*other.example)
            out = out.transpose(2, 3) if isinstance(other.module, Kernel) else out
            torch.testing.assert_close(out.float(), expected, atol=max(most, 2e-3), rtol=0)


def taken(channels: int, heads: int, side: int, device: str, *, positions: bool) -> str:
    """Say which kernel attention takes here."""
    choice = chosen_kernel((side, side), channels // heads, positions=positions, device=device)
    return f"`attend` takes `{choice.kernel}` here: {choice.reason}."


def modules(batch: int, channels: int, heads: int, side: int, kind: dict[str, object]) -> Iterator[Contender]:
    """Yield whole modules, on the same map."""
    x = torch.randn(batch, channels, side, side, requires_grad=True, **kind)
    yield Contender("circulated", Circulated(channels, heads, side, side), x)
    yield Contender("MHSA", MHSA(channels, heads=heads, size=side), x)
    try:
        from timm.layers.bottleneck_attn import BottleneckAttn
    except ImportError:
        print("timm is not installed and takes no part")
    else:
        theirs = BottleneckAttn(channels, feat_size=(side, side), num_heads=heads, scale_pos_embed=True)
        yield Contender("timm BottleneckAttn", theirs, x)
    yield Contender("nn.MultiheadAttention, no positions", Tokens(channels, heads), x)
    yield Contender("fused, no positions", FusedModule(channels, heads), x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small maps and few rounds; writes to another folder only")
    parser.add_argument("--device", default="cpu", help="a torch device (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16 or float16 (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="per case and mode (default: %(default)s)")
    parser.add_argument("--part", choices=("all", "kernels", "modules"), default="all", help="what to compare")
    parser.add_argument(
        "--processor-time", action="store_true", help="count processor time: for a CPU that other programs use too"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kind = {"device": options.device, "dtype": getattr(torch, options.dtype)}
    said = {"all": "", "float32": ""}  # what goes without saying in the name of the file
    script = "-".join(filter(None, ["mhsa", *(said.get(word, word) for word in (options.part, options.dtype))]))
    results: list[Case] = []
    parts = (
        ("kernels", kernels, KERNEL_CASES),
        ("kernels without positions", plain, PLAIN_CASES),
        ("modules", modules, MODULE_CASES),
    )
    for part, make, cases in parts:
        if options.part not in ("all", part.split()[0]):
            continue
        for name, batch, channels, heads, side, left_out in cases[:1] if options.quick else cases:
            torch.compiler.reset()  # FlexAttention compiles each size, and PyTorch allows a function eight of them
            contenders = [
                Contender(c.name, c.module.to(**kind), c.example)
                for c in make(batch, channels, heads, side, kind)
                if c.name not in left_out
            ]
            if part != "modules":
                require_equal(contenders)
            results.append(
                compare(
                    f"{part}, {name}, {options.dtype}",
                    contenders,
                    seconds=1.0 if options.quick else options.seconds,
                    processor_time=options.processor_time,
                    errors=errors(contenders),
                    note=taken(channels, heads, side, options.device, positions="without" not in part),
                )
            )
            print(table(results[-1]), flush=True)
            if not options.quick or options.results != RESULTS:
                print("written:", write(script, environment(options.device), results, options.results), flush=True)


if __name__ == "__main__":
    main()
