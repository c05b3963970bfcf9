"""The libraries that match detections to objects by COCO's rule: hotcoco, or pycocotools where it has no wheel.

Both give the same matches, so the same table; tests/coco compares them. Types of errors are hotcoco's alone.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

from attngraft._core.collector import no_garbage_collection
from attngraft.coco.installed import HOTCOCO, PYCOCOTOOLS, installed, module
from attngraft.coco.masks import compressed
from attngraft.coco.matches import MAX_DETECTIONS

Task = Literal["bbox", "segm"]


class Dataset(Protocol):
    """Ground truth or detections as a library holds them."""

    imgs: Mapping[int, Any]
    cats: Mapping[int, Any]


class Library(Protocol):
    """What is asked of a library."""

    name: str

    def truth(self, content: dict[str, Any]) -> Dataset:
        """Take ground truth that `attngraft.coco.truth.uniform` made."""

    def detections(self, truth: Dataset, found: list[dict[str, Any]]) -> Dataset:
        """Take detections in COCO's results format, whose images and classes are those of the truth."""

    def cells(self, truth: Dataset, detections: Dataset, task: Task, images: list[int]) -> Iterator[Mapping[str, Any]]:
        """Yield a record per image, class and size.

        Its keys: ``image_id category_id aRng dtScores gtIgnore dtMatched dtIgnore``.
        """


def library() -> Library:
    """Return the library that is used: hotcoco where it is installed."""
    return Hotcoco() if installed() == HOTCOCO else Pycocotools()


class Hotcoco:
    """hotcoco, whose matches come with Boolean masks."""

    name = HOTCOCO

    def truth(self, content: dict[str, Any]) -> Dataset:
        """Take ground truth."""
        loaded: Dataset = module(HOTCOCO).COCO(content)
        return loaded

    def detections(self, truth: Dataset, found: list[dict[str, Any]]) -> Dataset:
        """Take detections in COCO's results format."""
        loaded: Dataset = truth.load_res(found)  # type: ignore[attr-defined]
        return loaded

    def cells(self, truth: Dataset, detections: Dataset, task: Task, images: list[int]) -> Iterator[Mapping[str, Any]]:
        """Yield the records of some images."""
        evaluation = module(HOTCOCO).COCOeval(truth, detections, task)
        evaluation.params.img_ids = images
        evaluation.params.max_dets = [MAX_DETECTIONS]
        with no_garbage_collection():  # to search millions of small lists takes 5 times as long as to make them
            evaluation.evaluate()
            yield from (cell for cell in evaluation.eval_imgs if cell is not None)


class Pycocotools:
    """pycocotools, brought to the form of hotcoco."""

    name = PYCOCOTOOLS

    def truth(self, content: dict[str, Any]) -> Dataset:
        """Take ground truth; this library writes into its annotations."""
        with _silence():
            loaded: Dataset = module("pycocotools.coco").COCO()
            loaded.dataset = content  # type: ignore[attr-defined]
            loaded.createIndex()  # type: ignore[attr-defined]
        return loaded

    def detections(self, truth: Dataset, found: list[dict[str, Any]]) -> Dataset:
        """Take detections in COCO's results format."""
        packed = [
            one | {"segmentation": compressed(one["segmentation"])} if "segmentation" in one else one for one in found
        ]
        with _silence():
            if packed:
                loaded: Dataset = truth.loadRes(packed)  # type: ignore[attr-defined]
                return loaded
            empty = module("pycocotools.coco").COCO()
            empty.dataset = {**truth.dataset, "annotations": []}  # type: ignore[attr-defined]
            empty.createIndex()
            return empty

    def cells(self, truth: Dataset, detections: Dataset, task: Task, images: list[int]) -> Iterator[Mapping[str, Any]]:
        """Yield the records of some images."""
        with _silence():
            evaluation = module("pycocotools.cocoeval").COCOeval(truth, detections, task)
            evaluation.params.imgIds = images
            evaluation.params.maxDets = [MAX_DETECTIONS]
            evaluation.evaluate()
        for cell in evaluation.evalImgs:
            if cell is not None:
                yield {**cell, "dtMatched": cell["dtMatches"] > 0}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep off the screen what pycocotools prints at every step."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
