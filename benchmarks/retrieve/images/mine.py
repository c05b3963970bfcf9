"""Find the other failures of one cause by five of them: 15 are hidden among 1000 images and 40 other failures.

    python benchmarks/retrieve/images/mine.py --kept FOLDER [--seeds 3] [--out FILE]
    python benchmarks/retrieve/images/mine.py --quick     few images, an untrained detector, nothing written

Images are `attngraft.data.factors`, whose objects are moved to failure in a known way: **dark**, an object has 0.4 of
its brightness; **small**, it has 0.45 of its size; **cut**, the image ends in its middle. Only images of which the
detector (`detectors.py`, trained to tell shape) misses the changed object count, 20 a cause. Five ask, as whole images,
as objects inside their images, and as crops; recall is the share of the other 15 among the first 50.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _rows import RESULTS, all_keys, centred, interval, nearest, write
from detectors import RECIPE, factor_detector
from numpy.typing import NDArray

from attngraft.data.factor_scenes import FactorScene, factor_scene
from attngraft.data.scenes import Area, generator
from attngraft.retrieve import HeadSpaces, ImageEncoder, Item, Keys, Neighbours, vote
from attngraft.retrieve.misses import undetected
from attngraft.retrieve.parts import box_of, part
from attngraft.retrieve.spaces import joined
from attngraft.yolo import YOLO

CAUSES = ("dark", "small", "cut")
FAILURES, ASKING, DEPTH = 20, 5, 50
SCENES = 300
"""Seed of the images that are searched and changed; no detector saw them."""
MOST_TRIED = 3000
ROWS = {"standard": "standard", "joined": "joined-centred", "mrag": "mrag-centred"}
FORMS = ("image", "objects", "crops")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", type=Path, help="where trained detectors are kept for the next call")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=40, help="choices of the five that ask")
    parser.add_argument("--out", type=Path, default=RESULTS / "mine.json")
    parser.add_argument("--quick", action="store_true", help="few images, an untrained detector, nothing written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.quick:
        options.seeds, options.documents, options.draws = 1, 60, 3
    elif options.kept is None:
        parser.error("--kept is needed, or --quick")
    found: dict[str, dict[str, list[Any]]] = {cause: {} for cause in CAUSES}
    tried = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            tried.append(of_seed(options, seed, Path(folder), found))
    cases = [
        {"name": cause, "measures": {f"recall@{DEPTH}": {
            "rows": {row: vars(interval(np.array(values))) for row, values in rows.items()},
            "differences": [
                _difference(rows, f"mrag {form}", less)
                for form in FORMS
                for less in dict.fromkeys((f"standard {form}", f"joined {form}", "standard image"))
            ]}}}
        for cause, rows in found.items()
    ]  # fmt: skip
    print(f"\nrecall@{DEPTH}" + "".join(f"{cause:>10}" for cause in CAUSES))
    for row in found[CAUSES[0]]:
        print(f"{row:20}" + "".join(f"{np.mean(found[cause][row]):10.3f}" for cause in CAUSES))
    print("images changed until 20 of each cause were missed:", tried)
    if not options.quick:
        settings = {"recipe": RECIPE, "documents": options.documents, "draws": options.draws, "asking": ASKING,
                    "failures": FAILURES, "depth": DEPTH, "tried": tried}  # fmt: skip
        write("mine.py", options.out, settings, cases)


def _difference(rows: dict[str, list[Any]], row: str, less: str) -> dict[str, Any]:
    return {"row": row, "less": less, **vars(interval(np.array(rows[row]) - np.array(rows[less])))}


def of_seed(
    options: argparse.Namespace, seed: int, folder: Path, found: dict[str, dict[str, list[Any]]]
) -> dict[str, int]:
    """Add the recalls of one detector, and return how many images were changed for each cause."""
    model = YOLO(RECIPE) if options.quick else factor_detector(options.kept, "shape", seed)
    encoder = ImageEncoder(model, imgsz=96, batch=64)
    clean = []
    for index in range(options.documents):
        clean.append(Item(f"clean {index}", path=folder / f"{index}.png"))
        cv2.imwrite(str(clean[-1].path), factor_scene(generator(SCENES, 0, index)).image[..., ::-1])
    tried, failures = {}, {}
    for number, cause in enumerate(CAUSES):
        failures[cause], tried[cause] = failed(encoder, cause, number, folder)
    keys = all_keys(encoder, clean + [Item(f"whole {f.id}", path=f.path) for c in CAUSES for f in failures[c]])
    asking = {
        form: {cause: all_keys(encoder, [_as(one, form) for one in failures[cause]]) for cause in CAUSES}
        for form in FORMS
    }
    for at, cause in enumerate(CAUSES):
        random, values = np.random.default_rng(seed), []
        start = options.documents + at * FAILURES
        for _ in range(options.draws):
            asked = random.permutation(FAILURES)[:ASKING]
            pool = np.delete(np.arange(len(keys)), start + asked)
            hidden = np.flatnonzero((pool >= start) & (pool < start + FAILURES))
            documents = keys.take(pool)
            values.append({"chance": DEPTH / len(pool)} | {
                f"{row} {form}": _recall(row, documents, asking[form][cause].take(asked), hidden)
                for row in ROWS for form in FORMS
            })  # fmt: skip
        for row in values[0]:
            found[cause].setdefault(row, []).append([value[row] for value in values])
    return tried


def failed(encoder: ImageEncoder, cause: str, number: int, folder: Path) -> tuple[list[Item], int]:
    """Change images until the detector misses the changed object of so many; return these objects."""
    found: list[Item] = []
    for index in range(MOST_TRIED):
        image, area = changed(factor_scene(generator(SCENES, 1 + number, index)), cause)
        item = Item(f"{cause} {index}", path=folder / f"{cause}-{index}.png")
        cv2.imwrite(str(item.path), image[..., ::-1])
        box = tuple(float(edge) for edge in area)
        detections = [(b, 0, score) for b, _, score in encoder.detect(item)]  # of whatever class
        if undetected([box], [0], detections):  # type: ignore[list-item]
            found.append(part(item, box, 1, cut=False))
        if len(found) == FAILURES:
            return found, index + 1
    raise SystemExit(f"only {len(found)} of {MOST_TRIED} images are missed when an object is {cause}")


def changed(scene: FactorScene, cause: str) -> tuple[NDArray[np.uint8], Area]:
    """Return an image whose first object is dark, small or cut, and where that object is."""
    image, area = scene.image.copy(), scene.areas[0]
    left, top, right, bottom = area
    patch = image[top:bottom, left:right]
    mask = (np.ptp(patch.astype(int), axis=2) == 0) & (patch[..., 0] >= 185)
    if cause == "dark":
        patch[mask] = (patch[mask] * 0.4).astype(np.uint8)
        return image, area
    if cause == "small":
        whole = np.zeros(image.shape[:2], np.uint8)
        whole[top:bottom, left:right] = mask
        filled = cv2.inpaint(image, cv2.dilate(whole, np.ones((3, 3), np.uint8)), 3, cv2.INPAINT_TELEA)
        side = max(5, round(0.45 * (right - left)))
        small = cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) > 0.5
        x, y = (left + right - side) // 2, (top + bottom - side) // 2
        filled[y : y + side, x : x + side][small] = patch[mask][0]
        return filled, Area(x, y, x + side, y + side)
    # Cut: the nearest border moves to the object's middle, and the other side is filled by reflection.
    rooms = {"left": left, "top": top, "right": image.shape[1] - right, "bottom": image.shape[0] - bottom}
    nearest_side = min(rooms, key=lambda side: rooms[side])
    turns = ("left", "top", "right", "bottom").index(nearest_side)  # turned until that border is on the left
    turned = np.rot90(image, turns)
    place = np.zeros(image.shape[:2], bool)
    place[top:bottom, left:right] = True
    columns = np.flatnonzero(np.rot90(place, turns).any(0))
    offset = int(columns.mean())
    shifted = cv2.copyMakeBorder(np.ascontiguousarray(turned[:, offset:]), 0, 0, 0, offset, cv2.BORDER_REFLECT_101)
    marked = np.zeros_like(place)
    marked[:, : image.shape[1] - offset] = np.rot90(place, turns)[:, offset:]
    back, where = np.rot90(shifted, -turns), np.rot90(marked, -turns)
    rows, kept = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    return np.ascontiguousarray(back), Area(int(kept[0]), int(rows[0]), int(kept[-1]) + 1, int(rows[-1]) + 1)


def _as(one: Item, form: str) -> Item:
    if form == "image":
        return Item(one.id, path=one.path)
    box = box_of(one)
    assert box is not None
    return part(Item(one.id, path=one.path), box, 1, cut=form == "crops")


def _recall(row: str, documents: Keys, asking: Keys, hidden: NDArray[np.int64]) -> float:
    """Return the share of the hidden failures among the first images, all that ask voting together."""
    of_documents, of_asking = (_space(row, keys, documents) for keys in (documents, asking))
    weights = HeadSpaces.of(of_documents).importance() if row == "mrag" else np.ones(of_documents.shape[1])
    ids = [str(at) for at in range(len(documents))]
    found = Neighbours(ids, *nearest(of_documents, of_asking, DEPTH)).as_parts()
    first = {int(one.id) for one in vote(found, np.tile(weights, len(asking)), n=DEPTH)[0]}
    return len(first & set(hidden.tolist())) / len(hidden)


def _space(row: str, keys: Keys, documents: Keys) -> NDArray[np.float32]:
    if row == "standard":
        return keys.standard[:, None]
    if row == "joined":
        return centred(joined(keys.heads), joined(documents.heads))
    return centred(keys.heads, documents.heads)


if __name__ == "__main__":
    main()
