from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attngraft._core.errors import DataError
from attngraft.retrieve.items import Item, read_items


def jsonl(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    return path


def test_lines_of_json_with_their_fields(tmp_path: Path) -> None:
    lines = [{"_id": "d0", "title": "Tides", "text": "Twice a day.", "tags": ["a"]}, "", {"id": 7, "text": "Seven."}]
    assert read_items(jsonl(tmp_path / "docs.jsonl", *lines)) == [
        Item("d0", text="Twice a day.", fields={"title": "Tides"}),
        Item("7", text="Seven."),
    ]


def test_half_a_surrogate_pair_is_read_as_the_sign_for_what_is_none(tmp_path: Path) -> None:
    line = r'{"_id": "a\udc00", "text": "moon \ud83c, whole \ud83c\udf15", "by": "\ud800"}'
    found = read_items(jsonl(tmp_path / "docs.jsonl", line))
    assert found == [Item("a\ufffd", text="moon \ufffd, whole \U0001f315", fields={"by": "\ufffd"})]


def test_a_folder_of_the_beir_layout(tmp_path: Path) -> None:
    jsonl(tmp_path / "corpus.jsonl", {"_id": "d0", "text": "x"})
    assert [item.id for item in read_items(tmp_path)] == ["d0"]


def test_a_folder_of_images_with_those_below_it(tmp_path: Path) -> None:
    b, a = image(tmp_path / "b.png"), image(tmp_path / "sub/a.JPG")
    image(tmp_path / ".hidden/c.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert read_items(tmp_path) == [Item("b.png", path=b), Item("sub/a.JPG", path=a)]


def test_a_list_of_images_from_its_own_folder_or_as_it_stands(tmp_path: Path) -> None:
    near, far = image(tmp_path / "lists/near.png"), image(tmp_path / "far.png")
    (tmp_path / "lists/some.txt").write_text(f"near.png\n\n{far}\n")
    assert read_items(tmp_path / "lists/some.txt") == [Item("near.png", path=near), Item(str(far), path=far)]


def test_a_data_yaml_gives_each_image_once_with_its_split(tmp_path: Path) -> None:
    for name in ("train/a.png", "val/b.png"):
        image(tmp_path / "images" / name)
    (tmp_path / "data.yaml").write_text(
        f"path: {tmp_path}\ntrain: images/train\nval: images/val\ntest: images/val\nnames: [thing]\n"
    )
    found = read_items(tmp_path / "data.yaml")
    assert [(Path(item.id).name, item.fields["split"]) for item in found] == [("a.png", "train"), ("b.png", "val")]


def test_sequences_of_texts_paths_dictionaries_and_items(tmp_path: Path) -> None:
    path = image(tmp_path / "a.png")
    item = Item("own", text="x")
    found = read_items(["a text", path, str(path) + "x", {"_id": "d", "text": "y"}, item])
    assert [one.id for one in found] == ["1", str(path), "3", "d", "own"]
    assert read_items([str(path)]) == [Item(str(path), path=path)]
    assert read_items(path) == [Item("a.png", path=path)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], r"docs.jsonl is empty; give it at least one text or image"),
        ([{"_id": "a", "text": "x"}, "{no"], r"docs.jsonl, line 2 is not JSON"),
        (["[" * 100_000], r"docs.jsonl, line 1 is not JSON \(its brackets are nested too deep\)"),
        (["[1]"], r"line 1 holds a list; write an object with _id and text"),
        ([{"text": "x"}], r"line 1 has no _id"),
        ([{"_id": "a", "title": "x"}], r"line 1 \(a\) has no text"),
        ([{"_id": "a", "text": "x"}, {"_id": "a", "text": "y"}], r"two items have the id 'a'"),
    ],
)
def test_a_corpus_that_cannot_be_read_is_said_in_one_sentence(tmp_path: Path, lines: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_items(jsonl(tmp_path / "docs.jsonl", *lines))


@pytest.mark.parametrize("text", ["a story of tides " * 400 + ".png", "a\0b.png", "\ud800.png"])
def test_a_text_that_can_be_no_path_is_a_text(text: str) -> None:
    assert read_items([text]) == [Item("1", text=text)]
    with pytest.raises(DataError, match="does not exist"):
        read_items(text)


def test_sources_that_are_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "latin.jsonl").write_bytes('{"_id": "a", "text": "é"}'.encode("latin-1"))
    (tmp_path / "latin.txt").write_bytes("é.png".encode("latin-1"))
    (tmp_path / "empty").mkdir()
    for source, said in [
        (tmp_path / "none", "does not exist"),
        (tmp_path / "a.csv", "is no corpus"),
        (tmp_path / "latin.jsonl", "is not UTF-8 text"),
        (tmp_path / "latin.txt", "is not UTF-8 text"),
        (tmp_path / "empty", "is empty"),
        ([], "the corpus is empty"),
        ([3], "item 1 is a int; give items, texts, paths or dictionaries"),
    ]:
        with pytest.raises(DataError, match=said):
            read_items(source)
