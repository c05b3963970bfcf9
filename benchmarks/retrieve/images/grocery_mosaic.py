"""Find the images of several groceries at once: a query is a mosaic of n test images of n classes.

    python benchmarks/retrieve/images/grocery_mosaic.py --data DATA --kept FOLDER [--seeds 3] [--out FILE]
    python benchmarks/retrieve/images/grocery_mosaic.py --quick     generated images, one seed, nothing written

DATA is the Grocery Store set (Klasson et al., MIT) as folders train, val and test of 81 classes, 96 x 96 pixels. The
small network of `nets.py` learns one class an image at 48 pixels. Documents are the val images; a query's tiles keep
their 48 pixels, so it is a canvas of 1, 2 x 2 or 3 x 3 tiles. Success is the share of the n classes among the first k
documents, precision the share of the first k that are of one of them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _rows import RESULTS, all_keys, by_parts, case, met_by_chance, rankings, show, write
from nets import SIDE, SmallNet, accuracy, grocery_net, read_split
from numpy.typing import NDArray

from attngraft.retrieve import ImageEncoder, Item
from attngraft.retrieve.parts import part

OBJECTS = (1, 2, 4, 6, 9)
DEPTH = 20
GREY = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the Grocery Store set")
    parser.add_argument("--kept", type=Path, help="where trained networks are kept for the next call")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS / "grocery_mosaic.json")
    parser.add_argument("--quick", action="store_true", help="generated images, one seed, nothing written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if options.quick:
            options.data, options.kept, options.seeds, options.queries = _generated(work / "data"), work, 1, 10
        if options.data is None or options.kept is None:
            parser.error("--data and --kept are needed, or --quick")
        cases, top1 = benchmark(options, work)
    show(cases)
    print("top-1 on the test images:", top1)
    if not options.quick:
        settings = {"data": "grocery_cls", "side": SIDE, "queries": options.queries, "depth": DEPTH, "top1": top1}
        write("grocery_mosaic.py", options.out, settings, cases)


def benchmark(options: argparse.Namespace, work: Path) -> tuple[list[dict[str, Any]], list[float]]:
    """Return the cases, one for each number of objects, and the accuracy of each seed's network."""
    classes = sorted(folder.name for folder in (options.data / "train").iterdir())
    documents = [Item(str(file), path=file) for file in sorted((options.data / "val").glob("*/*.jpg"))]
    of_document = np.array([classes.index(item.path.parent.name) for item in documents if item.path])
    test = read_split(options.data / "test", classes)
    queries = {n: mosaics(test, n, options.queries, work / str(n)) for n in OBJECTS}
    values: dict[int, dict[str, dict[str, list[Any]]]] = {n: {} for n in OBJECTS}
    top1 = []
    for seed in range(options.seeds):
        net = grocery_net(options.data, options.kept, seed, epochs=1 if options.quick else 8)
        top1.append(round(accuracy(net, *test[:2]), 4))
        of_seed = all_keys(_encoder(net, 1), documents)
        for n, (items, wanted, parts) in queries.items():
            found = rankings(of_seed, all_keys(_encoder(net, _across(n)), items), DEPTH)
            cut = all_keys(_encoder(net, 1), [crop for crops in parts for crop in crops])
            found |= by_parts(of_seed, [cut.take(range(n * at, n * at + n)) for at in range(len(items))], DEPTH)
            for row, ranked in found.items():
                for measure, numbers in measured(of_document[ranked], wanted, n).items():
                    values[n].setdefault(measure, {}).setdefault(row, []).append(numbers)
    return [
        case(f"{n} objects" if n > 1 else "1 object", _with_chance(values[n], of_document, queries[n][1], n))
        for n in OBJECTS
    ], top1


def mosaics(
    test: tuple[torch.Tensor, NDArray[np.int64], list[str]], n: int, count: int, folder: Path
) -> tuple[list[Item], NDArray[np.int64], list[list[Item]]]:
    """Write queries of n test images of n classes; return them, their classes ``(count, n)`` and their crops."""
    images, labels, _ = test
    rng = np.random.default_rng(n)
    folder.mkdir(parents=True)
    items, wanted, parts = [], [], []
    across = _across(n)
    for number in range(count):
        chosen = rng.permutation(np.unique(labels))[:n]
        canvas = np.full((across * SIDE, across * SIDE, 3), GREY, np.uint8)
        item, boxes = Item(f"q{number}", path=folder / f"{number}.png"), []
        for label, place in zip(chosen, rng.permutation(across**2)[:n], strict=True):
            tile = images[rng.choice(np.flatnonzero(labels == label))].permute(1, 2, 0).numpy()
            top, left = (int(at) * SIDE for at in divmod(int(place), across))
            canvas[top : top + SIDE, left : left + SIDE] = tile
            boxes.append((left, top, left + SIDE, top + SIDE))
        cv2.imwrite(str(item.path), canvas[..., ::-1])
        items.append(item)
        wanted.append(chosen)
        parts.append([part(item, box, at, cut=True) for at, box in enumerate(boxes)])
    return items, np.array(wanted), parts


def measured(found: NDArray[np.int64], wanted: NDArray[np.int64], n: int) -> dict[str, NDArray[np.float64]]:
    """Return success and precision of each query at 20 and at n."""
    values = {}
    for k in (DEPTH, n):
        first = found[:, :k]
        values[f"success@{'n' if k == n else k}"] = (wanted[:, :, None] == first[:, None]).any(2).mean(1)
        values[f"precision@{'n' if k == n else k}"] = (first[:, :, None] == wanted[:, None]).any(2).mean(1)
    return values


def _with_chance(
    values: dict[str, dict[str, list[Any]]], of_document: NDArray[np.int64], wanted: NDArray[np.int64], n: int
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Put what random images would score before the rows, in closed form."""
    sizes, total = np.bincount(of_document), len(of_document)
    full = {}
    for measure, rows in values.items():
        k = n if measure.endswith("@n") else DEPTH
        if measure.startswith("success"):
            chance = [met_by_chance([int(sizes[label]) for label in query], total, k) for query in wanted]
        else:
            chance = [float(sizes[query].sum() / total) for query in wanted]
        full[measure] = {"chance": np.array([chance]), **{row: np.array(found) for row, found in rows.items()}}
    return full


def _across(n: int) -> int:
    return int(np.ceil(n**0.5))


def _encoder(net: SmallNet, across: int) -> ImageEncoder:
    return ImageEncoder(net, imgsz=across * SIDE, batch=64)


def _generated(folder: Path) -> Path:
    """Write a set of twelve classes, each a colour and an orientation of stripes, for a quick look."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 6), ("test", 3)):
        for label in range(12):
            (folder / split / f"class {label:02d}").mkdir(parents=True)
            for number in range(count):
                x = np.arange(96) // 8 % 2 * 60 if label % 2 else np.zeros(96, int)
                image = np.full((96, 96, 3), 40) + rng.integers(0, 40, (96, 96, 3)) + x[:, None]
                image[..., label % 3] += 20 * (label // 3)
                name = folder / split / f"class {label:02d}" / f"{number}.jpg"
                cv2.imwrite(str(name), image.clip(0, 255).astype(np.uint8))
    return folder


if __name__ == "__main__":
    main()
