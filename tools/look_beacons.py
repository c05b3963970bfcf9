"""Draw docs/images/look-beacons.png: an unseen beacons scene, and what each head of the trained detector mixed.

Run it from the root of a checkout: ``python tools/look_beacons.py``. The detector is the one of the tests, made by
``tools/beacon_models.py``. The scene is the first in which two heads put more than half of a row on one cell each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.maps.beacons import scenes, watched  # noqa: E402

from attngraft.look import look  # noqa: E402
from attngraft.look.sheet import Tile, draw, png, tiles  # noqa: E402

FILE = ROOT / "docs/images/look-beacons.png"


def main() -> None:
    """Find the scene, and write the image and each head over it."""
    detector = watched("global")
    for scene in scenes(40):
        image = look(detector, scene.image, imgsz=96).images[0]
        heads = image.attentions[0].rows.max(2)  # (D, h)
        clear = np.flatnonzero(((heads > 0.5).sum(1) == 2) & [d.label == 0 for d in image.detections])
        if len(clear):
            break
    shown = tiles(image, int(clear[0]), detector.names)
    titles = [("an unseen image", "the coloured square is the cue")]
    titles += [(f"head {h}", f"at most {value:.2f} on one cell") for h, value in enumerate(heads[clear[0]])]
    mixed = [tile for tile in shown if "mixed" in tile.title[0]]
    row = [Tile(title, tile.image, 0) for title, tile in zip(titles, [shown[0], *mixed], strict=True)]
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_bytes(png(draw(row), "python tools/look_beacons.py"))
    print(FILE.relative_to(ROOT), FILE.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
