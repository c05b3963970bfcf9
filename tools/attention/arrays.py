"""The arrays behind the pages of attention: some scenes as the trained beacons detector sees them, and its weights.

The detector is the one of the tests (``tools/beacon_models.py``). Its attention stands behind layer 3, on a map of
12 x 12 cells and 64 channels. Kept are the maps that enter the attention and the attention's own weights, from which
pages compute everything else, and what the detector says when parts of the attention are off, which they cannot.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.maps.beacons import ATTENTION, scenes, tensors, watched
from torch import Tensor, nn

from attngraft import maps
from attngraft.attention import MHSA

Arrays = dict[str, NDArray[Any]]

FILE = Path(__file__).with_name("arrays.npz")
SCENES = (15, 21, 23, 16, 2)
"""Numbers of the unseen scenes shown: three with a red beacon, two with a green one."""
JUDGED = 40
"""Scenes over which heads are described."""
GAMMAS = np.linspace(0, 1, 21).astype(np.float32)
SIDE = 12


def load() -> Arrays:
    """Return the committed arrays."""
    with np.load(FILE) as kept:
        return dict(kept)


def make() -> Arrays:
    """Run the detector and return the arrays anew."""
    detector = watched("global")
    attention: Any = detector.network.get_submodule(ATTENTION)
    images = tensors(max(SCENES) + 1)[list(SCENES)]
    found = [d for image in detector.find(images, confidence=0.5) for d in image]
    at = [d.image for d in found], [d.candidate for d in found]

    def scores() -> NDArray[np.float32]:
        with torch.no_grad():
            return detector.predict(images).scores[at].numpy()  # (D, 2)

    arrays: Arrays = {
        "scene": np.array(SCENES),
        "x": entering(attention, lambda: detector.predict(images)).flatten(2).numpy(),  # (S, C, N)
        "qkv": attention.qkv.weight.detach()[:, :, 0, 0].numpy(),  # (h * 3 * d, C)
        "height": middle(attention.height_table),  # (2H - 1, d)
        "width": middle(attention.width_table),
        "cue": np.array([scenes(n + 1)[n].cue for n in SCENES]),
        "object": np.array([[d.image, d.candidate, d.label] for d in found]),
        "box": np.array([d.box for d in found], np.float32),
        "scores": np.stack([[scores_without(attention, scores, heads, p) for heads in range(16)] for p in (1, 0)]),
        "copied": scores_copied(attention, scores),
        "gammas": GAMMAS,
        "by_gamma": np.stack([_with_output(attention, lambda y, g=g: y * float(g), scores) for g in GAMMAS]),
        "beacon_mass": beacon_mass(detector),
        "reach": np.array(reach(detector)),
    }
    return arrays | {f"png{i}": _png(scenes(n + 1)[n].image) for i, n in enumerate(SCENES)}


def entering(attention: nn.Module, run: Callable[[], Any]) -> Tensor:
    """Return the map that an attention is given while something runs."""
    seen = []
    handle = attention.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    try:
        run()
    finally:
        handle.remove()
    return seen[0]


def middle(table: Tensor) -> NDArray[np.float32]:
    """Return the rows of a table that a map of `SIDE` uses."""
    rows = table.detach()[0]
    spare = (len(rows) - (2 * SIDE - 1)) // 2
    return rows[spare : len(rows) - spare].numpy()


def scores_without(attention: Any, scores: Callable[[], Any], heads: int, positions: int) -> Any:
    """Return class scores with some heads at zero, and with or without position terms.

    Args:
        attention: The module.
        scores: What asks the detector.
        heads: The heads that stay, a bit each.
        positions: Whether position terms stay.
    """
    stay = torch.tensor([heads >> head & 1 for head in range(attention.heads)], dtype=torch.float32)
    channels = stay.repeat_interleave(attention.channels // attention.heads)[:, None, None]
    with tables_times(attention, float(positions)):
        return _with_output(attention, lambda y: y * channels, scores)


@contextmanager
def tables_times(attention: Any, factor: float) -> Iterator[None]:
    """Multiply the position tables inside a with block."""
    before = [table.data for table in (attention.height_table, attention.width_table)]
    attention.height_table.data, attention.width_table.data = (table * factor for table in before)
    try:
        yield
    finally:
        attention.height_table.data, attention.width_table.data = before


def copied(arrays: Arrays) -> MHSA:
    """Return the widely copied arithmetic on the weights of the trained attention.

    Its tables hold a vector for each row and column of the map. It is given the trained vectors of the offsets from the
    middle, so that its numbers are of the same size.
    """
    heads = 4
    module = MHSA(arrays["qkv"].shape[1], heads=heads, position="circulated", size=SIDE, bias=False)
    start = SIDE // 2 - 1
    with torch.no_grad():
        module.qkv.weight.copy_(torch.from_numpy(arrays["qkv"])[:, :, None, None])
        for table, rows in ((module.height_table, arrays["height"]), (module.width_table, arrays["width"])):
            table.copy_(torch.from_numpy(rows[start : start + SIDE]).expand(heads, -1, -1))
    return module.eval()


def scores_copied(attention: Any, scores: Callable[[], Any]) -> Any:
    """Return class scores with the widely copied arithmetic in the place of the paper's."""
    weights = {
        "qkv": attention.qkv.weight.detach()[:, :, 0, 0].numpy(),
        "height": middle(attention.height_table),
        "width": middle(attention.width_table),
    }
    other = copied(weights)
    handle = attention.register_forward_hook(lambda _module, inputs, _output: other(inputs[0]))
    try:
        return scores()
    finally:
        handle.remove()


def _with_output(attention: nn.Module, change: Callable[[Tensor], Tensor], scores: Callable[[], Any]) -> Any:
    handle = attention.register_forward_hook(lambda _module, _inputs, output: change(output))
    try:
        return scores()
    finally:
        handle.remove()


def beacon_mass(detector: Any) -> NDArray[np.float64]:
    """Return the mean mass of each head's rows of object centres on the beacon, and the beacon's share of the map."""
    size, grid = (96, 96), (SIDE, SIDE)
    with maps.record(detector.network) as tape, torch.no_grad():
        detector.network(tensors(JUDGED))
    rows = tape[ATTENTION].rows().double()
    found = []
    for image, scene in enumerate(scenes(JUDGED)):
        touched = (maps.coverage(scene.cue, size, grid) > 0).double().flatten()
        for thing in scene.things:
            left, top, right, bottom = thing.area
            cell = maps.cell_at(((left + right) / 2, (top + bottom) / 2), size, grid)
            found.append(torch.cat((rows[image, :, cell] @ touched, touched.mean()[None])))
    return torch.stack(found).mean(0).numpy()


def reach(detector: Any) -> int:
    """Return how many pixels away the farthest pixel is that a candidate's scores depend on without the graft."""
    images = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0)).requires_grad_()
    cell = 12 * 24 + 12
    with maps.without(detector.network):
        detector.predict(images).scores[0, cell].logit().sum().backward()
    pixels = images.grad.abs().sum((0, 1)).nonzero()
    centre = torch.tensor([12 * 8 + 4, 12 * 8 + 4])
    return int(torch.maximum(centre - pixels.amin(0), pixels.amax(0) + 1 - centre).max())


def _png(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", optimize=True)
    return np.frombuffer(data.getvalue(), np.uint8)
