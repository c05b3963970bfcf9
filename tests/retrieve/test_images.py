"""Keys of images and objects: they are what the heads mixed, recomputed from the weights and values of each head."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attngraft import maps
from attngraft._core.errors import CheckpointError, DataError, MapError, OptionError
from attngraft._core.progress import Lines
from attngraft.attention import mechanisms
from attngraft.retrieve import Index
from attngraft.retrieve.images import ImageEncoder
from attngraft.retrieve.items import Item, read_items
from attngraft.retrieve.keys import Keys
from attngraft.retrieve.parts import part
from attngraft.yolo import YOLO

WITH_ROWS = [
    name
    for name, entry in mechanisms().items()
    if entry.cls.__module__.startswith("attngraft.") and hasattr(entry.cls, "attention_rows")
]
BESIDE = {"AreaAttention": "position", "BRA": "side", "DAT": "position", "PSAAttention": "position", "Attention": "pe",
          "AAttn": "pe"}  # fmt: skip
"""Children whose output is added to what the heads mixed, by class."""


class Net(nn.Module):
    """One mechanism in a classifier."""

    def __init__(self, mechanism: nn.Module, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, 4, 1)
        self.mechanism = mechanism
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.mechanism(self.stem(x)).mean((2, 3)))
        return logits


def away_from_start(network: nn.Module) -> Any:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.double().eval()


def net(name: str, channels: int = 48) -> Any:
    cls: Any = mechanisms()[name].cls
    return away_from_start(Net(cls(channels, **cls.fit(channels)), channels))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five images of two sizes, in a folder."""
    rng = np.random.default_rng(3)
    for number, size in enumerate([(40, 56), (40, 56), (64, 48), (40, 56), (64, 48)]):
        cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 255, (*size, 3)).astype(np.uint8))
    return tmp_path


def all_keys(encoder: ImageEncoder, items: Sequence[Item]) -> Keys:
    """Return the keys of items in the order of the items."""
    found = list(encoder.keys(items))
    ids = [name for keys in found for name in keys.ids]
    order = [ids.index(item.id) for item in items]
    heads, standard = (np.concatenate([getattr(keys, name) for keys in found]) for name in ("heads", "standard"))
    return Keys(tuple(item.id for item in items), heads[order], standard[order])


def mixture(network: nn.Module, layer: str, tensor: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Return what every head of a layer mixed, ``(h, N, e)``, from its weights and values, and the grid of the N."""
    beside: list[Tensor] = []
    with maps.record(network) as tape, torch.no_grad():
        module: Any = tape[layer].module
        child = BESIDE.get(type(module).__name__)
        handle = child and module.get_submodule(child).register_forward_hook(lambda m, x, out: beside.append(out))
        network(tensor)
        if handle:
            handle.remove()
    attention = tape[layer]
    said = attention.rows()[0] @ attention.values()[0]  # (h, N, e)
    grid = attention.grid
    assert grid is not None
    if type(module).__name__ == "DAT":  # a head has a line for each group of channels, and the values a bias
        said = said.unflatten(0, (module.heads, module.groups)).sum(1)
        said = said + module.key_value.bias[module.channels :].view(module.heads, 1, -1)
    if type(module).__name__ == "FocusedLinearAttention":
        v = attention.values().transpose(2, 3).flatten(1, 2).unflatten(2, grid)
        weight, bias = (t.repeat(module.heads, *(1,) * (t.dim() - 1)) for t in (module.dwc.weight, module.dwc.bias))
        beside = [F.conv2d(v, weight, bias, padding=module.kernel_size // 2, groups=v.shape[1])]
    if beside:
        said = said + beside[-1][0].flatten(1).unflatten(0, (len(said), -1)).transpose(1, 2)
    return said.detach(), grid


class TestKeysAreWhatTheHeadsMixed:
    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("name", WITH_ROWS)
    def test_every_mechanism_with_heads(self, name: str, batch: int, images: Path) -> None:
        network = net(name)
        encoder = ImageEncoder(network, imgsz=(44, 60), batch=batch)  # 11 x 15 cells
        items = read_items(images)
        keys = all_keys(encoder, items)
        assert keys.heads.shape == (5, encoder.heads, encoder.dim)
        for item, heads, standard in zip(items, keys.heads, keys.standard, strict=True):
            tensor = encoder.subject.prepare(cv2.imread(str(item.path))[..., ::-1], (44, 60)).tensor
            said, grid = mixture(network, encoder.layers[0], tensor)
            assert grid == (11, 15)
            np.testing.assert_allclose(heads, said.mean(1), rtol=2e-5, atol=1e-6)
            pooled = network.mechanism(network.stem(tensor)).mean((2, 3))[0].detach()
            np.testing.assert_allclose(standard, pooled, rtol=2e-5, atol=1e-6)

    @pytest.mark.parametrize(
        ("recipe", "layer", "heads"),
        [
            ("yolo11n.yaml", "model.10.m.0.attn", 2),
            ("yolo12n.yaml", "model.8.m.1.1.attn", 4),
            ("yolo11n.yaml+mhsa(heads=8)@P5", "model.10.grafts.0.mechanism", 8),
            ("yolov8n.yaml+mha(heads=4)@P4", "model.6.grafts.0.mechanism", 4),
            ("yolov8n.yaml+aifi(heads=4)@P5", "model.9.grafts.0.mechanism", 4),
            ("rtdetr-resnet50.yaml", None, 8),
        ],
    )
    def test_detectors(self, recipe: str, layer: str | None, heads: int, images: Path) -> None:
        encoder = ImageEncoder(YOLO(recipe), imgsz=64, batch=2)
        assert layer is None or encoder.layers == (layer,)
        assert encoder.heads == heads
        items = read_items(images)[1:4]
        keys = all_keys(encoder, items)
        for item, found in zip(items, keys.heads, strict=True):
            prepared = encoder.subject.prepare(cv2.imread(str(item.path))[..., ::-1], 64)
            said, grid = mixture(encoder.subject.network, encoder.layers[0], prepared.tensor)
            stride = 16 if "P4" in recipe else 32
            assert grid == tuple(side // stride for side in prepared.tensor.shape[2:])
            np.testing.assert_allclose(found, said.mean(1), rtol=1e-3, atol=1e-5)

    def test_the_standard_key_is_the_embedding_of_the_host(self, images: Path) -> None:
        model = YOLO("yolo11n.yaml")
        keys = all_keys(ImageEncoder(model, imgsz=64), read_items(images))
        embedded = model.embed(str(images / "0.png"), imgsz=64, verbose=False)[0]
        np.testing.assert_allclose(keys.standard[0], embedded.cpu(), rtol=1e-3, atol=1e-5)

    def test_several_layers_give_their_heads_one_after_the_other(self, images: Path) -> None:
        model = YOLO("yolo11n.yaml+mhsa(heads=4)@P5+mhsa(heads=2)@P4")
        names = ["model.6.grafts.0.mechanism", "model.10.grafts.0.mechanism"]
        both = ImageEncoder(model, layers=names, imgsz=64)
        single = [all_keys(ImageEncoder(model, layers=name, imgsz=64), read_items(images)) for name in names]
        assert (both.heads, both.dim) == (6, 64)
        np.testing.assert_allclose(
            all_keys(both, read_items(images)).heads, np.concatenate([keys.heads for keys in single], 1), atol=1e-6
        )
        with pytest.raises(OptionError, match=r"one width, got model.10.grafts.0.mechanism 32, model.10.m.0.attn 64"):
            ImageEncoder(YOLO("yolo11n.yaml+mhsa(heads=8)@P5"), layers=[-1, 0], imgsz=64)


class TestObjects:
    def test_a_box_of_whole_cells_is_the_mean_of_those_cells(self, tmp_path: Path) -> None:
        model = YOLO("attngraft-micro.yaml+mhsa(init=paper)@P3")
        away_from_start(model.model)
        encoder = ImageEncoder(model, imgsz=(64, 96))  # 8 x 12 cells of 8 pixels
        image = Item("0", path=tmp_path / "0.png")
        cv2.imwrite(str(image.path), np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8))
        boxes = [(8, 16, 40, 56), (0, 0, 96, 64), (88, 56, 96, 64)]
        items = [image, *(part(image, box, number, cut=False) for number, box in enumerate(boxes, 1))]
        keys = all_keys(encoder, items)
        tensor = encoder.subject.prepare(cv2.imread(str(image.path))[..., ::-1], (64, 96)).tensor
        said, (height, width) = mixture(encoder.subject.network, encoder.layers[0], tensor)
        maps_of_heads = said.unflatten(1, (height, width))
        for (left, top, right, bottom), found in zip(boxes, keys.heads[1:], strict=True):
            inside = maps_of_heads[:, top // 8 : bottom // 8, left // 8 : right // 8]
            np.testing.assert_allclose(found, inside.mean((1, 2)), rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(keys.heads[0], keys.heads[2], atol=1e-6)
        np.testing.assert_allclose(keys.standard[0], keys.standard[2], atol=1e-6)

    def test_boxes_are_in_pixels_of_the_file_whatever_the_network_sees(self, tmp_path: Path) -> None:
        """Padding moves a box, scaling shrinks it: both images reach the network as the same 64 x 96 pixels."""
        encoder = ImageEncoder(YOLO("attngraft-micro.yaml+mhsa(init=paper)@P3"), imgsz=96)
        small = np.random.default_rng(0).integers(0, 255, (40, 96, 3)).astype(np.uint8)
        large = cv2.resize(small, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
        for name, pixels in (("small.png", small), ("large.png", large)):
            cv2.imwrite(str(tmp_path / name), pixels)
        prepared = encoder.subject.prepare(small[..., ::-1], 96)
        assert prepared.offset == (0, 12)
        said, grid = mixture(encoder.subject.network, encoder.layers[0], prepared.tensor)
        inside = said.unflatten(1, grid)[:, 2:5, 1:5].mean((1, 2))  # rows 16 to 40 of the input, columns 8 to 40
        for name, box in (("small.png", (8, 4, 40, 28)), ("large.png", (16, 8, 80, 56))):
            keys = all_keys(encoder, [part(Item(name, path=tmp_path / name), box, 1, cut=False)])
            np.testing.assert_allclose(keys.heads[0], inside, rtol=1e-3, atol=1e-6)

    def test_a_crop_is_encoded_as_an_image_of_its_own(self, images: Path) -> None:
        encoder = ImageEncoder(net("mha"), imgsz=32)
        whole = cv2.imread(str(images / "2.png"))
        cv2.imwrite(str(images / "cut.png"), whole[10:40, 5:36])
        items = [Item("cut", path=images / "cut.png"),
                 part(Item("whole", path=images / "2.png"), (5.2, 10.9, 35.5, 39.1), 1, cut=True)]  # fmt: skip
        keys = all_keys(encoder, items)
        np.testing.assert_allclose(keys.heads[0], keys.heads[1], atol=1e-7)
        np.testing.assert_allclose(keys.standard[0], keys.standard[1], atol=1e-7)

    def test_an_object_has_no_standard_key_where_the_model_pools_first(self, images: Path) -> None:
        item = part(Item("0", path=images / "0.png"), (1, 1, 20, 20), 1, cut=False)
        with pytest.raises(OptionError, match="cut them out"):
            list(ImageEncoder(net("mha"), imgsz=32).keys([item]))

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"left": 1, "top": 2, "right": 3}, r"x needs four numbers left, top, right, bottom in pixels, got \(1,"),
            ({"left": 1, "top": 2, "right": "a", "bottom": 4}, "x needs four numbers"),
            ({"left": 60, "top": 2, "right": 70, "bottom": 9}, r"x: the box .* has no pixel of .*0.png.* 56 x 40"),
            ({"left": 9, "top": 2, "right": 9, "bottom": 9}, r"has no pixel"),
        ],
    )
    def test_boxes_that_make_no_sense(self, images: Path, fields: dict[str, Any], message: str) -> None:
        encoder = ImageEncoder(YOLO("yolo11n.yaml"), imgsz=64)
        with pytest.raises(DataError, match=message):
            list(encoder.keys([Item("x", path=images / "0.png", fields=fields)]))


class TestParts:
    def test_tiles_cover_the_image(self, images: Path) -> None:
        encoder = ImageEncoder(net("mha"), imgsz=32)
        found = encoder.parts(Item("q", path=images / "0.png"), "tiles")
        assert [item.id for item in found] == ["q#1", "q#2", "q#3", "q#4"]
        assert [tuple(item.fields[side] for side in ("left", "top", "right", "bottom")) for item in found] == [
            (0, 0, 28, 20), (28, 0, 56, 20), (0, 20, 28, 40), (28, 20, 56, 40)]  # fmt: skip
        assert all_keys(encoder, found).heads.shape[0] == 4

    def test_detections_become_crops_or_objects(self, images: Path) -> None:
        encoder = ImageEncoder(YOLO("yolo11n.yaml"), imgsz=64, confidence=0.0)
        query = Item("q", path=images / "2.png")
        crops, objects = encoder.parts(query, "crops"), encoder.parts(query, "objects")
        assert len(crops) == len(objects) == len(encoder.detect(query)) > 0
        assert all(item.fields["cut"] for item in crops)
        assert not any("cut" in item.fields for item in objects)
        encoder.confidence = 1.0
        assert encoder.parts(query, "crops") == [query]

    def test_what_cannot_be_cut(self, images: Path) -> None:
        encoder = ImageEncoder(net("mha"), imgsz=32)
        with pytest.raises(OptionError, match="'crops', 'objects', 'tiles', got 'sentences'|sentences"):
            encoder.parts(Item("q", path=images / "0.png"), "sentences")
        with pytest.raises(OptionError, match="a classifier finds no boxes"):
            encoder.parts(Item("q", path=images / "0.png"), "crops")


class TestModels:
    @pytest.mark.parametrize("recipe", ["yolov8n.yaml", "yolov8n.yaml+se@P5", "yolov5n.yaml"])
    def test_one_without_heads_is_refused_with_what_would_do(self, recipe: str) -> None:
        with pytest.raises(MapError, match=r"DetectionModel has no attention with heads.*yolo11n\+mhsa@P5") as caught:
            ImageEncoder(YOLO(recipe), imgsz=64)
        assert "\n" not in str(caught.value)
        for name in ("psa_attention", "area_attention", "mha", "bra", "dat", "hab"):
            assert name in str(caught.value)
            assert name in WITH_ROWS

    def test_a_checkpoint_and_its_recipe_name_the_same_layers(self, tmp_path: Path, images: Path) -> None:
        model = YOLO("attngraft-micro.yaml+mhsa@P3")
        model.save(tmp_path / "best.pt")
        encoders = [ImageEncoder(tmp_path / "best.pt", imgsz=64), ImageEncoder(model, imgsz=64)]
        assert encoders[0].layers == encoders[1].layers == ("model.3.grafts.0.mechanism",)
        assert encoders[0].describe() == {
            "kind": "images", "model": str(tmp_path / "best.pt"), "layers": ["model.3.grafts.0.mechanism"],
            "imgsz": 64, "confidence": 0.25}  # fmt: skip
        assert ImageEncoder(**{k: v for k, v in encoders[0].describe().items() if k != "kind"}).heads == 4  # type: ignore[arg-type]

    def test_the_fingerprint_knows_weights_layers_and_size_but_not_the_path(self, tmp_path: Path) -> None:
        model = YOLO("attngraft-micro.yaml+mhsa@P3")
        for name in ("a.pt", "b.pt"):
            model.save(tmp_path / name)
        first = ImageEncoder(tmp_path / "a.pt", imgsz=64).fingerprint
        assert first == ImageEncoder(tmp_path / "b.pt", imgsz=64, batch=3).fingerprint
        assert first != ImageEncoder(tmp_path / "a.pt", imgsz=96).fingerprint
        with torch.no_grad():
            next(model.model.parameters()).add_(0.01)
        model.save(tmp_path / "c.pt")
        assert first != ImageEncoder(tmp_path / "c.pt", imgsz=64).fingerprint

    def test_a_layer_that_is_not_there(self) -> None:
        with pytest.raises(OptionError, match=r"no attention 'model.10.attn' over cells; did you mean model.10.m"):
            ImageEncoder(YOLO("yolo11n.yaml"), layers="model.10.attn", imgsz=64)
        with pytest.raises(OptionError, match="no attention 3 over cells"):
            ImageEncoder(YOLO("yolo11n.yaml"), layers=3, imgsz=64)
        with pytest.raises(OptionError, match="each attention once"):
            ImageEncoder(YOLO("yolo11n.yaml"), layers=[0, -1], imgsz=64)

    def test_nothing_is_left_behind_on_a_model(self, images: Path) -> None:
        network = net("mha")
        list(ImageEncoder(network, imgsz=32).keys(read_items(images)))
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())

    def test_images_that_cannot_be_read(self, tmp_path: Path) -> None:
        """One broken file in fifty thousand ended the index; what asks has to be readable."""
        encoder = ImageEncoder(net("mha"), imgsz=32)
        (tmp_path / "a.png").write_bytes(b"no image")
        broken = read_items(tmp_path)
        with pytest.raises(DataError, match=r"a.png is not an image that can be read"):
            list(encoder.keys(broken, queries=True))
        with (
            pytest.warns(UserWarning, match=r"a.png is not an image.*it is left out"),
            pytest.raises(DataError, match="none of 1 images can be read"),
        ):
            Index.build(broken, model=encoder)
        for number in range(2):
            cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((32, 32, 3), 90 * number, np.uint8))
        said: list[str] = []
        index = Index.build(tmp_path, model=encoder, path=tmp_path / "i.index", progress=Lines(said.append))
        assert sorted(index.ids) == ["0.png", "1.png"]
        assert said == [
            f"{tmp_path / 'a.png'} is not an image that can be read; give PNG or JPEG files; it is left out"
        ]
        cv2.imwrite(str(tmp_path / "a.png"), np.full((32, 32, 3), 40, np.uint8))  # mended: the same call takes it in
        assert len(Index.build(tmp_path, model=encoder, path=tmp_path / "i.index")) == 3
        with pytest.raises(DataError, match="d1 has no image; keys of images need items with a path"):
            list(encoder.keys([Item("d1", text="words")]))


def test_an_index_of_images_is_built_reopened_and_searched_by_image_object_and_crops(
    tmp_path: Path, images: Path
) -> None:
    YOLO("attngraft-micro.yaml+mhsa(init=paper)@P3").save(tmp_path / "best.pt")
    built = Index.build(images, model=tmp_path / "best.pt", path=tmp_path / "my.index", imgsz=(64, 96))
    assert (len(built), built.store.heads, built.store.dim) == (5, 4, 16)
    opened = Index.open(tmp_path / "my.index")
    hits = opened.search(images / "3.png", n=3)
    assert hits[0].id == "3.png"
    assert sorted(one.head for one in hits[0].by_head if one.rank == 0) == [0, 1, 2, 3]
    box = dict(zip(("left", "top", "right", "bottom"), (0.0, 0.0, 56.0, 40.0), strict=True))
    whole = opened.search(Item("all of it", path=images / "3.png", fields=box), n=1)
    assert whole[0].id == "3.png"
    tiles = opened.search(images / "3.png", n=5, parts="tiles")
    assert {hit.id for hit in tiles} <= {f"{number}.png" for number in range(5)}
    with pytest.raises(DataError, match="either texts or images"):
        Index.build([Item("a", path=images / "0.png"), "words"], model=tmp_path / "best.pt")


def test_an_index_by_a_recipe_is_searched_when_it_is_opened_again(tmp_path: Path, images: Path) -> None:
    before = torch.get_rng_state()
    built = Index.build(images, model="attngraft-micro.yaml+mhsa(init=paper)@P3", path=tmp_path / "i", imgsz=64)
    asked = next(iter(sorted(images.rglob("*.png"))))
    found = [hit.id for hit in built.search(asked, 2)]
    torch.rand(1)  # whatever was drawn since
    assert [hit.id for hit in Index.open(tmp_path / "i").search(asked, 2)] == found
    torch.set_rng_state(before)


class Payload:
    """What runs a command where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {Path('ran').absolute()}",)


class Note:
    """A class of the user's own, harmless, and known to nobody."""


class TestAnIndexOfSomebodyElse:
    @pytest.mark.parametrize(
        "named", ["evil.pt", "evil.pt+mhsa(init=paper)@P3", "evil.ckpt", "evil.pt.txt", "plain.pt"]
    )
    def test_nothing_that_it_names_is_run(
        self, named: str, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        model = YOLO("attngraft-micro.yaml+mhsa(init=paper)@P3")
        model.save("best.pt")
        Index.build(images, model="best.pt", path="my.index", imgsz=64)
        content = torch.load("best.pt", weights_only=False)
        for name in ("evil.pt", "evil.ckpt", "evil.pt.txt"):
            torch.save({**content, "note": Payload()}, name)
        torch.save({"model": Payload()}, "plain.pt")
        file = Path("my.index/index.json")
        described = json.loads(file.read_text())
        described["encoder"]["model"] = named
        file.write_text(json.dumps(described))
        with pytest.raises((CheckpointError, MapError)) as caught:
            Index.open("my.index").search(images / "0.png")
        assert not Path("ran").exists()
        if "txt" not in named:
            assert "cannot be opened as data" in str(caught.value)
            assert "name the model yourself with model= if you trust it" in str(caught.value)

    def test_a_model_that_is_more_than_data_is_opened_by_the_users_word(
        self, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        model = YOLO("attngraft-micro.yaml+mhsa(init=paper)@P3")
        model.model.note = Note()
        model.save("best.pt")
        Index.build(images, model="best.pt", path="my.index", imgsz=64)
        with pytest.raises(CheckpointError, match="best.pt, which the index names, cannot be opened as data"):
            Index.open("my.index").search(images / "0.png")
        assert Index.open("my.index", model="best.pt").search(images / "0.png")[0].id == "0.png"

    def test_what_names_no_model_is_damaged(self, tmp_path: Path, images: Path) -> None:
        Index.build(images, model=net("mha"), path=tmp_path / "my.index", imgsz=32)
        file = tmp_path / "my.index/index.json"
        described = json.loads(file.read_text())
        for encoder in ({"kind": "images"}, {**described["encoder"], "model": 5}, "best.pt"):
            file.write_text(json.dumps({**described, "encoder": encoder}))
            with pytest.raises(DataError, match=r"index.json is damaged \(it names no model\)"):
                Index.open(tmp_path / "my.index")
