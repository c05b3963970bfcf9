"""What looking costs: recording attention, rows of a detection, ODAM and scores beside the plain forward pass.

    python benchmarks/maps.py            about 3 minutes of one free core
    python benchmarks/maps.py --quick    a small image and few rounds

Prints ratios of interleaved rounds, and where a limit is promised whether it is kept; nothing is written. Weights are
random, which changes no cost.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from attngraft import maps
from attngraft.maps import scores
from attngraft.measure import latency, memory
from attngraft.yolo import YOLO
from attngraft.yolo.looking import Watched

ROWS_LIMIT = 1.15
"""Recording, and the rows of one detection, over the plain forward pass of yolo11n+mhsa@P5 at 640."""

ODAM_LIMIT_S = 5.0
SCORES_LIMIT_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small image and few rounds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    side, rounds, steps = (128, 3, 2) if options.quick else (640, 20, 20)
    for place in ("P5", "P3"):
        rows(place, side, rounds)
    relevance(side, steps)


def rows(place: str, side: int, rounds: int) -> None:
    """Compare a plain forward pass with one that is recorded and asked for the rows of one cell."""
    watched, image = Watched(YOLO(f"yolo11n.yaml+mhsa@{place}")), torch.rand(1, 3, side, side)
    with maps.record(watched.network) as tape, torch.no_grad():
        watched.network(image)
    (name,) = (name for name in tape.attentions if "grafts" in name)
    grid = tape[name].grid
    assert grid is not None
    middle = maps.cell_at((side / 2, side / 2), (side, side), grid)

    @torch.no_grad()
    def recorded() -> Tensor:
        with maps.record(watched.network) as tape:
            watched.network(image)
        return tape[name].rows([middle])

    calls: Mapping[str, Callable[[], object]] = {
        "plain": torch.no_grad()(lambda: watched.network(image)),
        "recorded, with rows": recorded,
    }
    _, timing = latency.compare(calls, rounds=rounds, warmup=1)
    promised = place == "P5" and side == 640
    said = f" (limit {ROWS_LIMIT}: {'kept' if timing.ratio <= ROWS_LIMIT else 'broken'})" if promised else ""
    print(
        f"mhsa@{place}, {grid[0]} x {grid[1]} cells, rows of one cell: {timing.ratio:.3f} "
        f"({timing.ratio_low:.3f}-{timing.ratio_high:.3f}) times the plain forward pass{said}"
    )
    alone = memory.peak(_Rows(tape[name], middle), (image,)) / 2**20
    print(
        f"  peak of the rows alone {alone:.1f} MiB; all rows of a head would be {(grid[0] * grid[1]) ** 2 / 2**18:.1f}"
    )


class _Rows(torch.nn.Module):
    def __init__(self, attention: maps.RecordedAttention, cell: int) -> None:
        super().__init__()
        self.read = lambda: attention.rows([cell])

    def forward(self, _image: Tensor) -> Tensor:
        return self.read()


def relevance(side: int, steps: int) -> None:
    """Time ODAM at three layers for five detections, and the scores of one map with its controls."""
    watched, image = Watched(YOLO("yolo11n.yaml+mhsa@P5")), torch.rand(1, 3, side, side)
    candidates = watched.predict(image).scores[0].amax(1).topk(5).indices.tolist()
    targets = [maps.Target(0, candidate, 0, quantity) for candidate in candidates for quantity in ("class", "left")]
    start = time.perf_counter()
    heats = maps.odam(watched.network, watched.predict, image, targets, watched.layers)
    took = time.perf_counter() - start
    print(f"ODAM of 5 detections, 2 targets each, at 3 layers: {took:.2f} s ({_kept(took, ODAM_LIMIT_S)})")
    box = watched.predict(image).boxes[0, candidates[0]].tolist()
    detection = maps.Detection(0, candidates[0], 0, 0.0, tuple(box), (0.0, 0.0))  # type: ignore[arg-type]
    heat = heats[watched.layers[0]][0]
    compared = [heat, *(scores.control(kind, detection, (side, side), (20, 20)) for kind in scores.CONTROLS)]
    start = time.perf_counter()
    for one in compared:
        for direction in ("deletion", "insertion"):
            scores.curve(watched.predict, image[0], detection, one, direction=direction, steps=steps, batch=4)
    took = time.perf_counter() - start
    kept = _kept(took, SCORES_LIMIT_S)
    print(f"deletion and insertion of one map and its 3 controls, {steps} steps: {took:.1f} s ({kept})")


def _kept(took: float, limit: float) -> str:
    return f"limit {limit:.0f} s: {'kept' if took <= limit else 'broken'}"


if __name__ == "__main__":
    main()
