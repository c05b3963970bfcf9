"""Reference implementations beside the zoo's: the same numbers, how much faster, and in how much memory.

    python benchmarks/circulated.py            about 10 minutes of one free core
    python benchmarks/circulated.py --quick    small maps, a second each, nothing written
    python benchmarks/circulated.py --only simam --channels 256 --size 40 --batch 4

`_usual.py` says what they are. Mechanisms that are the same few layers however they are written are left out:
CAA, CAB, CPCA, DAT, EPSA, GAM, LSK, LSKA, PSABlock and SCSA; BRA's reference gathers as ours does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import _usual as usual
import torch
from _timing import Case, Contender, compare, table, write
from torch import Tensor, nn

import attngraft.attention as zoo
from attngraft.measure import environment

Pair = tuple[nn.Module, nn.Module]
FORMS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "se": usual.se,
    "eca": usual.eca,
    "cbam": usual.cbam,
    "triplet": usual.triplet,
    "coord_attention": usual.coordinate,
    "simam": usual.simam,
    "shuffle_attention": usual.shuffle,
    "nam": usual.nam,
    "ela": usual.ela,
    "global_context": usual.global_context,
    "mha": usual.multi_head,
    "non_local": usual.non_local,
    "area_attention": usual.area,
    "psa_attention": usual.psa,
    "aifi": usual.aifi,
    "irmb": usual.irmb,
    "hab": usual.hab,
    "ocab": usual.ocab,
    "sk": usual.sk,
    "bam": usual.bam,
    "criss_cross": usual.criss_cross,
    "halo": usual.halo,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "irmb": {"border": "zero"},
    "hab": {"window": 8, "heads": 8},
    "ocab": {"window": 8, "heads": 8, "border": "zero"},
    "sk": {"kernel_sizes": (1, 3, 5, 7), "groups": 1, "dilated": False},
    "halo": {"window": 8, "border": "zero"},
}
SHAPES = [(1, 256, 40), (8, 256, 40), (8, 512, 13)]
"""Batch, channels and side of the map: P4 of one image and of eight at 640 pixels, and P5 of eight at 416."""


def pairs(channels: int, size: int) -> dict[str, Callable[[], Pair]]:
    """Return what makes the reference implementation and ours, for every mechanism that has one."""

    def from_ours(name: str) -> Callable[[], Pair]:
        def make() -> Pair:
            cls = zoo.info(name).cls
            ours = cls(channels, **{**cls.fit(channels), **OPTIONS.get(name, {})})
            return usual.Usual(ours, FORMS[name]), ours

        return make

    def msda() -> Pair:
        ours = zoo.MSDA(channels, **zoo.MSDA.fit(channels), border="zero")
        return with_weights(usual.UsualMSDA(channels, ours.heads, ours.dilations), ours)

    def mlca() -> Pair:
        ours = zoo.MLCA(channels)
        return with_weights(usual.UsualMLCA(channels, kernel_size=ours.conv.kernel_size[0]), ours)

    def focused_linear() -> Pair:
        ours = zoo.FocusedLinearAttention(channels, heads=8, map_size=(size, size))
        return with_weights(usual.UsualFocusedLinear(channels, (size, size)), ours)

    def polarized(order: str) -> Pair:
        ours = zoo.PolarizedSelfAttention(channels, order=order)
        return with_weights(usual.UsualPolarized(channels, order), ours)

    return {
        "msda": msda,
        "ema": lambda: with_weights(usual.UsualEMA(channels), zoo.EMA(channels)),
        "mlca": mlca,
        "focused_linear": focused_linear,
        "polarized, parallel": lambda: polarized("parallel"),
        "polarized, sequential": lambda: polarized("sequential"),
        **{name: from_ours(name) for name in FORMS},
    }


def with_weights(theirs: nn.Module, ours: nn.Module) -> Pair:
    """Give the reference implementation the weights of ours; position tables, laid out differently, are zero."""
    with torch.no_grad():
        for parameter, source in zip(theirs.parameters(), ours.parameters(), strict=True):
            parameter.copy_(source.reshape(parameter.shape))
    return theirs, ours


def require_equal(theirs: nn.Module, ours: nn.Module, x: Tensor) -> None:
    """Stop unless both compute the same numbers."""
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(x), ours.eval()(x), atol=1e-4, rtol=1e-4)


def case(name: str, pair: Pair, shape: tuple[int, int, int], seconds: float) -> Case:
    batch, channels, size = shape
    x = torch.randn(batch, channels, size, size, requires_grad=True)
    require_equal(*pair, x)
    theirs, ours = (module.train() for module in pair)
    contenders = [Contender("reference implementation", theirs, x), Contender("attngraft", ours, x)]
    return compare(f"{name}, {size}x{size}, {channels} channels, batch {batch}", contenders, seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small maps, a second each, nothing written")
    parser.add_argument("--only", default="", help="names that contain this; nothing written")
    parser.add_argument("--channels", type=int)
    parser.add_argument("--size", type=int, default=40, help="height and width of the map")
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shapes = [(options.batch, options.channels, options.size)] if options.channels else SHAPES
    shapes = [(2, 64, 16)] if options.quick else shapes
    cases = []
    for shape in shapes:
        for name, make in pairs(*shape[1:]).items():
            windowed = name in ("hab", "ocab", "halo") and shape[2] % 8
            ragged = name == "area_attention" and shape[2] ** 2 % 4
            if options.only not in name or windowed or ragged:
                continue  # the reference implementations do not take such maps at all
            cases.append(case(name, make(), shape, 0.5 if options.quick else 4))
            print(table(cases[-1]), flush=True)
    if not (options.quick or options.only or options.channels):
        print(write("circulated", environment(), cases))


if __name__ == "__main__":
    main()
