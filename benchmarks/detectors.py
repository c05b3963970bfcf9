"""Whole detectors with a mechanism beside the stock one: parameters, FLOPs, memory, inference and training step.

    python benchmarks/detectors.py            about 3 minutes of one free core
    python benchmarks/detectors.py --quick    two grafts, small images and few rounds, nothing written

The work of `attngraft bench`; its JSON and figure are the results.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch
from _timing import RESULTS

import attngraft
from attngraft.bench import draw
from attngraft.measure import Timing

BASE = "yolo11n.yaml"
GRAFTS = ("eca@P5", "se@P5", "ema@P5", "mlca@P5", "mhsa@P5", "mhsa@P4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="two grafts, small images, few rounds; writes to another folder only"
    )
    parser.add_argument("--device", default="cpu", help="a torch device (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to (default: %(default)s)")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--backends", default="eager,onnxruntime,openvino", help="(default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    side, rounds = (128, 3) if options.quick else (options.imgsz, options.rounds)
    models = [BASE, *(f"{BASE}+{graft}" for graft in (GRAFTS[-2:] if options.quick else GRAFTS))]
    backends = ["eager"] if options.quick else options.backends.split(",")
    found = attngraft.bench(models, imgsz=side, rounds=rounds, train=True, backends=backends, device=options.device)
    for m in found.measurements:
        step = f", training step {_ratio(m.train_latency)}" if m.train_latency else ""
        print(f"{m.backend:12} {m.name:24} inference {_ratio(m.latency)}{step} times the stock model's")
    print(f"ratios of {rounds} interleaved rounds, with 95 % intervals")
    if options.quick and options.results == RESULTS:
        return
    device = re.sub(r"[^a-z0-9]+", "-", found.environment.device.lower()).strip("-")
    options.results.mkdir(parents=True, exist_ok=True)
    data, figure = (options.results / f"detectors-{device}.{ending}" for ending in ("json", "png"))
    for file in (data, figure):
        file.unlink(missing_ok=True)
    print("written:", found.write(data), draw(found, figure))


def _ratio(timing: Timing) -> str:
    return f"{timing.ratio:.2f} ({timing.ratio_low:.2f}-{timing.ratio_high:.2f})"


if __name__ == "__main__":
    main()
