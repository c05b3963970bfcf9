"""Time the image bootstrap of a study against evaluating every resample anew, on generated COCO-sized data.

    python benchmarks/bootstrap.py [--images 5000] [--resamples 1000] [--seeds 5] [--out benchmarks/bootstrap.json]

Two arms of equal runs stand for a comparison: the time depends on how many detections are true at which IoU, not on
whose they are. "Evaluating anew" is one evaluation of one run by hotcoco, matching and accumulating only, times both.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import scipy

from attngraft.coco.evaluate import load_predictions, load_truth, match
from attngraft.study.judging.bootstrap import resample

SCHEMA = "attngraft.bootstrap/1"
CLASSES = 80
OBJECTS = 7.3
DETECTIONS = 36
"""Objects and detections per image: COCO val2017, and a YOLO at conf=0.001 after its 100-detection limit."""


def generate(images: int, rng: np.random.Generator) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Make ground truth and detections with COCO's class imbalance and a mid-sized detector's hit rates."""
    share = np.r_[0.3, 0.7 * (tail := 1 / np.arange(2, CLASSES + 1) ** 0.8) / tail.sum()]
    count = rng.poisson(OBJECTS, images)
    image = np.repeat(np.arange(images), count)
    category = rng.choice(CLASSES, len(image), p=share)
    size = np.exp(rng.normal(4.2, 0.9, (len(image), 2))).clip(6, 400)
    corner = rng.uniform(0, 1, (len(image), 2)) * (640 - size)
    annotations = [
        {"id": i + 1, "image_id": int(image[i]), "category_id": int(category[i]), "area": float(np.prod(size[i])),
         "bbox": [*corner[i].tolist(), *size[i].tolist()], "iscrowd": int(rng.random() < 0.01)}
        for i in range(len(image))
    ]  # fmt: skip
    truth = {
        "images": [{"id": i, "width": 640, "height": 640, "file_name": f"{i}.jpg"} for i in range(images)],
        "categories": [{"id": c, "name": f"class {c}"} for c in range(CLASSES)],
        "annotations": annotations,
    }
    hit = rng.random(len(image)) < 0.85
    noise = rng.normal(0, 1, (hit.sum(), 4)) * rng.gamma(2, 0.035, (hit.sum(), 1))
    found_corner = corner[hit] + noise[:, :2] * size[hit]
    found_size = size[hit] * np.exp(noise[:, 2:])
    extra = images * DETECTIONS - len(found_size)
    extra_size = np.exp(rng.normal(4.2, 0.9, (extra, 2))).clip(6, 400)
    extra_corner = rng.uniform(0, 1, (extra, 2)) * (640 - extra_size)
    box = np.hstack([np.vstack([found_corner, extra_corner]), np.vstack([found_size, extra_size])])
    where = np.r_[image[hit], rng.integers(0, images, extra)]
    what = np.r_[category[hit], rng.choice(CLASSES, extra, p=0.5 * share + 0.5 / CLASSES)]
    score = np.r_[rng.beta(2, 2, hit.sum()), rng.beta(0.3, 4, extra)].clip(0.001, 1).round(5)
    return truth, [
        {"image_id": int(i), "category_id": int(c), "bbox": b, "score": float(s)}
        for i, c, b, s in zip(where, what, box.tolist(), score, strict=True)
    ]


def measure(images: int, resamples: int, seeds: int, workers: int) -> dict[str, Any]:
    """Return the seconds of both ways and the memory of ours."""
    truth, predictions = generate(images, np.random.default_rng(0))
    objects = load_truth(truth)
    evaluation = hotcoco.COCOeval(objects, load_predictions(predictions, objects), "bbox")
    start = time.perf_counter()
    evaluation.evaluate()
    evaluation.accumulate()
    once = time.perf_counter() - start
    start = time.perf_counter()
    run = match(truth, predictions)
    table = time.perf_counter() - start
    del truth, predictions, objects, evaluation
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    resample([run] * (2 * seeds), resamples=resamples, workers=workers)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "images": images,
        "detections_per_run": len(run.score),
        "runs": 2 * seeds,
        "resamples": resamples,
        "workers": workers,
        "match_table_s_per_run": round(table, 2),
        "bootstrap_s": round(seconds, 1),
        "bootstrap_cpu_s": round(cpu, 1),
        "peak_memory_before_mib": before // 1024,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "evaluator_s_per_run": round(once, 3),
        "evaluating_anew_s": round(once * 2 * seeds * resamples),
        "times_faster": round(once * 2 * seeds * resamples / seconds, 1),
    }


def main() -> None:
    """Read the options, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = {
        "schema": SCHEMA,
        "date": datetime.date.today().isoformat(),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
        "versions": {m.__name__: m.__version__ for m in (np, scipy, hotcoco)} | {"python": platform.python_version()},
        "device": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": round(os.getloadavg()[0], 1),
        **measure(options.images, options.resamples, options.seeds, options.workers),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
