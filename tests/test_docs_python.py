"""Python on the pages runs: each page's blocks in their order, in one namespace, beside the files that it speaks of.

A traceback shows the page and its line. Chinese pages hold the same programs, so those of the English pages are run.
"""

from __future__ import annotations

import ast
import copyreg
import importlib
import json
import pydoc
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import attngraft
from attngraft._core import plugins
from attngraft._core.registry import unregister
from attngraft.data import beacons
from attngraft.study.running.records import Run
from attngraft.study.study import Study
from attngraft.yolo import YOLO
from attngraft.yolo.looking import Watched
from tests.models import test_official as authors
from tests.models.test_hat import official as hat_state
from tests.study.conftest import COSTS, record, truth_of
from tests.test_docs_links import ROOT, pages

FENCE = re.compile(r"^((?:> )? *)```(?:python|py)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\w+\.py)\n")
Namespace = dict[str, Any]

SMALLER = {
    "README.md": {"epochs=50)": "epochs=1, imgsz=64, batch=4, workers=0, device='cpu', amp=False, plots=False)"},
    "docs/fit.md": {
        "epochs=60, imgsz=128)": "epochs=1, imgsz=32, batch=8, workers=0, accelerator='cpu')",
    },
    "docs/models.md": {
        'weights="DEFAULT"': "weights=None",  # nothing is downloaded
        '"flatten_pvt_tiny", ': '"flatten_pvt_tiny", **reduced, ',
    },
    "docs/retrieve.md": {"imgsz=640": "imgsz=96"},
    "docs/studies.md": {"epochs=50)": "epochs=2, seeds=3, controls='stock,noop')"},
}
"""What is replaced before a page runs, so that it ends in seconds."""

LEFT_OUT = {
    "docs/retrieve.md": {
        "from langchain_core.documents import Document": "tests/test_docs_retrieve.py runs it, over an index of texts",
        "from llama_index.core.retrievers import BaseRetriever": "tests/test_docs_retrieve.py runs it, likewise",
    },
}
"""Blocks that are not run here, by their first line, and why."""


@dataclass(frozen=True)
class Block:
    """A program on a page.

    Attributes:
        page: The page, from the root of the repository.
        line: The page's line on which the program begins.
        text: The program.
    """

    page: str
    line: int
    text: str

    @property
    def first(self) -> str:
        return self.text.partition("\n")[0]

    def tree(self, text: str | None = None) -> ast.Module:
        """Parse the program, or what replaces it, with the page's numbers of lines."""
        return ast.parse("\n" * (self.line - 1) + (self.text if text is None else text), str(ROOT / self.page))


def unquoted(text: str, mark: str) -> str:
    """Return a text without the mark that each line begins with; an empty line has no blank behind it."""
    return re.sub(f"^(?:{mark}|{mark.rstrip()})", "", text, flags=re.MULTILINE)


def blocks(page: Path) -> list[Block]:
    """Return the Python of a page, that in quotations too."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page.relative_to(ROOT).as_posix(),
            text.count("\n", 0, found.start(2)) + 1,
            unquoted(found[2], found[1]),
        )
        for found in FENCE.finditer(text)
    ]


PROGRAMS = {page.relative_to(ROOT).as_posix(): found for page in pages() if (found := blocks(page))}
ENGLISH = sorted(page for page in PROGRAMS if not page.endswith(".zh-CN.md"))


def run(block: Block, given: Namespace) -> None:
    """Run a block; one that begins with the name of a file is that file, and is loaded as a plugin."""
    text = block.text
    for old, new in SMALLER.get(block.page, {}).items():
        text = text.replace(old, new)
    if named := FILE.match(text):
        Path(named[1]).write_text(text, encoding="utf-8")
        attngraft.load_plugin(named[1])
    else:
        exec(compile(block.tree(text), str(ROOT / block.page), "exec"), given)


def missing(block: Block) -> list[str]:
    """Return what a block imports of attngraft, or reads from it and its modules, that is not there."""
    nodes, known, wrong = list(ast.walk(block.tree())), dict[str, object](), list[str]()
    for node in nodes:
        if isinstance(node, ast.Import):
            known |= {one.name: importlib.import_module(one.name) for one in node.names if one.name == "attngraft"}
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "attngraft":
            home = importlib.import_module(str(node.module))
            known |= {one.asname or one.name: getattr(home, one.name, None) for one in node.names}
            wrong += [f"{node.module}.{one.name}" for one in node.names if not hasattr(home, one.name)]
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            wrong += [] if hasattr(known[node.value.id], node.attr) else [f"{node.value.id}.{node.attr}"]
    return wrong


# -- what the pages assume ---------------------------------------------------------------------------------------------


def data(name: str) -> Path:
    """Write ``NAME.yaml`` and its images into the working folder."""
    made = beacons(name, train=8, val=8)
    described = yaml.safe_load(made.read_text()) | {"path": str(made.parent.absolute())}
    Path(f"{name}.yaml").write_text(yaml.safe_dump(described))
    return made


def picture(file: str, height: int, width: int, brighter: int = 0) -> np.ndarray:
    """Write an image of noise."""
    pixels = np.random.default_rng(0).integers(0, 100, (height, width, 3), dtype=np.uint8) + np.uint8(brighter)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return pixels


def weights() -> Namespace:
    """Write ``yolo11n.pt``, random, and a grafted ``best.pt`` that detects a few objects in ``image.jpg``."""
    image = picture("image.jpg", 480, 640)
    shutil.copy("image.jpg", "street.jpg")
    YOLO("yolo11n.yaml").save("yolo11n.pt")
    model = YOLO("yolo11n.pt+mhsa@P5")
    with Image.open("image.jpg") as opened, torch.no_grad():
        images = Watched(model).prepare(np.asarray(opened), 640).tensor
        norms = [module for module in model.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:  # what a random network says fades from layer to layer unless its norms know their inputs
            norm.momentum = 1.0
        model.model.train()(images)
        for norm in norms:
            norm.momentum = 0.03
        model.model.eval()
        scores = Watched(model).network(images)[0][0, 4:].max(0).values  # (N,)
        least = scores.topk(6).values[-1].logit()
        for branch in model.model.model[-1].cv3:
            branch[-1].bias += torch.tensor(0.25).logit() - least  # 0.25 is the least score of a detection
    model.save("best.pt")
    return {"image": image}


def readme() -> Namespace:
    pytest.importorskip("timm")
    data("my")
    full: dict[str, Any] = {"channels": 180, "depths": (6,) * 6, "heads": 6, "window": 16, "compress": 3, "squeeze": 30}
    torch.save({"params_ema": hat_state(scale=4, **full)}, "HAT_SRx4.pth")
    import timm

    return {**weights(), "torch": torch, "timm": timm, "images": torch.rand(1, 3, 96, 96)}


def fit() -> Namespace:
    pytest.importorskip("lightning")
    for split, count in {"train": 8, "val": 4, "test": 4}.items():
        for channel, name in enumerate(("daisy", "rose", "sunflower", "tulip", "violet", "poppy")):
            for index in range(count // 4):
                picture(f"flowers/{split}/{name}/{index}.jpg", 40, 40, 20 * channel)
    picture("image.jpg", 40, 40)
    return {}


def models() -> Namespace:
    torchvision = pytest.importorskip("torchvision")
    torch.save({key: tensor.float() for key, tensor in authors.pvt_state(1).items()}, "flatten_pvt_t.pth")
    reduced = {
        **authors.PVT, "depths": authors.DEPTHS, "mlp_ratios": (authors.MLP,) * 4, "image_size": authors.SIZE,
        "num_classes": authors.CLASSES,
    }  # fmt: skip
    return {
        "torch": torch, "torchvision": torchvision, "images": torch.rand(1, 3, 96, 96), "reduced": reduced
    }  # fmt: skip


def retrieve() -> Namespace:
    pytest.importorskip("transformers")
    pytest.importorskip("ir_measures")
    from tests.retrieve import families

    families.network("bert").save_pretrained("models/MiniLM")
    families.tokenizer().save_pretrained("models/MiniLM")
    texts = {f"d{n}": f"{word} tide port" for n, word in enumerate(families.WORDS[:8], 1)}
    documents = [
        {"_id": name, "text": text, "category": "sea", "year": 1985 + n} for n, (name, text) in enumerate(texts.items())
    ]
    lines("docs.jsonl", documents)
    lines("my_benchmark/corpus.jsonl", [*documents[1:], {"_id": "d9", "text": "A new harbour."}])
    lines("my_benchmark/queries.jsonl", [{"_id": f"q{n}", "text": "moon tide. sun port."} for n in range(4)])
    wanted = "".join(f"q{n}\td{d}\t1\n" for n in range(4) for d in (2 + n, 4 + n))
    Path("my_benchmark/qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{wanted}")
    given = weights()
    for index in range(2):
        Path("images").mkdir(exist_ok=True)
        shutil.copy("image.jpg", f"images/{index}.jpg")
    return given


def lines(file: str, rows: list[dict[str, Any]]) -> None:
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))


def studies() -> Namespace:
    """Lay down a study whose runs are all finished, so that the page's trains nothing."""
    pytest.importorskip("pandas")
    made = data("fruit")
    study = Study(data="fruit.yaml", base="yolo11n", arms="mhsa@P5,ema@P4", epochs=2, seeds=3, controls="stock,noop")
    frozen = study.frozen_plan()
    frozen.write(study.store.folder)
    truth = truth_of(made)
    study.store.keep_truth(truth, made.parent / "images" / "val")
    for arm in frozen.arms:
        for seed in range(3):
            record(study.store, Run(arm, seed), frozen, truth, 0.3 if arm.name != "ema@P4" else 0.1, 2)
    rows = [
        {**COSTS, "name": arm.name, "latency": {"ratio": 1, "ratio_low": 1, "ratio_high": 1}} for arm in frozen.arms
    ]
    report = {"measurements": rows, "environment": {"device": "a made-up processor", "threads": 1}}
    (study.store.folder / "costs.json").write_text(json.dumps(report))
    return {}


SCENES: dict[str, Callable[[], Namespace]] = {
    "README.md": readme,
    "docs/fit.md": fit,
    "docs/look.md": weights,
    "docs/maps.md": weights,
    "docs/models.md": models,
    "docs/retrieve.md": retrieve,
    "docs/studies.md": studies,
}
"""What makes the files a page speaks of, and gives the names that it does not define itself."""


@contextmanager
def no_trace() -> Iterator[None]:
    """Take the plugins that are loaded inside out of the process again."""
    before, loaded = set(attngraft.names()), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(plugins.VARIABLE, "")
        yield
    for name in set(attngraft.names()) - before:
        unregister(name)
    for module in set(sys.modules) - loaded:
        if Path(getattr(sys.modules[module], "__file__", None) or "/").parent == Path.cwd():
            for value in vars(sys.modules.pop(module)).values():
                if isinstance(value, type):
                    copyreg.dispatch_table.pop(value, None)


# -- tests -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ENGLISH)
def test_a_page_runs(page: str) -> None:
    given = SCENES[page]() if page in SCENES else {}
    with no_trace():
        for block in PROGRAMS[page]:
            if block.first not in LEFT_OUT.get(page, {}):
                run(block, given)


@pytest.mark.parametrize("page", PROGRAMS)
def test_what_a_page_names_is_there(page: str) -> None:
    assert {f"{block.page}:{block.line}": missing(block) for block in PROGRAMS[page] if missing(block)} == {}


def test_modules_that_prose_names_are_there() -> None:
    named = {
        (page.relative_to(ROOT).as_posix(), name)
        for page in pages()
        for name in re.findall(r"`(attngraft(?:\.[a-z_]\w+)+)(?![\w/.])", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 30
    groups = {"attngraft.mechanisms"}  # of entry points
    assert {one for one in named if one[1] not in groups and pydoc.locate(one[1]) is None} == set()


@pytest.mark.parametrize("page", [page for page in PROGRAMS if page.endswith(".zh-CN.md")])
def test_a_chinese_page_has_the_programs_of_the_english_one(page: str) -> None:
    english = PROGRAMS[page.replace(".zh-CN", "")]
    assert [ast.unparse(block.tree()) for block in PROGRAMS[page]] == [ast.unparse(b.tree()) for b in english]


def test_what_is_left_out_or_made_smaller_is_on_the_pages() -> None:
    for page, reasons in LEFT_OUT.items():
        firsts = [block.first for block in PROGRAMS[page]]
        assert [firsts.count(first) for first in reasons] == [1] * len(reasons)
    for page, changes in SMALLER.items():
        text = "".join(block.text for block in PROGRAMS[page])
        assert {old: text.count(old) for old in changes} == dict.fromkeys(changes, 1)
    assert set(SCENES) <= set(ENGLISH)


def test_a_fault_is_seen_and_named_by_its_line() -> None:
    """Were the search blind, the tests above would always pass."""
    block = Block(
        "README.md", 41, "import attngraft\nfrom attngraft import glance, maps\n\nmaps.gone(attngraft.away)\n"
    )
    assert missing(block) == ["attngraft.glance", "maps.gone", "attngraft.away"]
    with pytest.raises(ImportError, match="glance") as found:
        run(block, {})
    last = found.traceback[-1]
    assert (last.path, last.lineno + 1) == (ROOT / "README.md", 42)
