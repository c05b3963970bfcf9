"""The command: an index of a text model of a folder, and what it finds; one sentence for each bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from attngraft.cli import main
from attngraft.retrieve import Index
from tests.retrieve import families

TEXTS = ["tide moon", "sea sun ship port", "storm wind sail mast", "rope knot anchor", "sand wave coast"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    families.network("bert").save_pretrained(folder)
    families.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    lines = [json.dumps({"_id": f"d{n}", "text": text, "even": n % 2 == 0}) for n, text in enumerate(TEXTS)]
    (tmp_path / "docs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "docs.jsonl"


def run(*words: object, given: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["retrieve", *map(str, words)], input=given)
    return result.exit_code, result.output


def test_an_index_is_written_completed_and_searched(model: Path, docs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my.index"
    code, said = run("index", docs, f"model={model}", "pooling=mean", "preset=none", "dtype=float16", "-o", folder)
    assert (code, said) == (0, f"attngraft: {folder} holds 5 items, 6 heads x 8\n")
    with docs.open("a", encoding="utf-8") as more:
        more.write('\n{"_id": "d5", "text": "cliff chart", "even": false}')
    words = [docs, f"model={model}", "pooling=mean", "preset=None", "dtype=float16", f"output={folder}"]
    code, said = run(*words)  # the verb index need not be said
    assert (code, said) == (0, f"attngraft: {folder} holds 6 items, 6 heads x 8\n")
    code, said = run("search", folder, "storm wind sail mast", "n=2", "--json")
    assert code == 0
    first = json.loads(said.splitlines()[0])
    assert (first["id"], first["fields"]) == ("d2", {"even": True})
    assert {one["rank"] for one in first["by_head"]} == {0}
    code, said = run("search", folder, "storm wind sail mast", "n=9", "where=even = TRUE")
    assert code == 0
    assert said.splitlines()[0] == "asked for 9, and the index has 3 that the filter lets pass"
    number, name, _, *heads = said.splitlines()[2].split()
    assert (number, name, sorted(heads)) == ("1", "d2", [*(f"{head}(0)" for head in range(6)), "even=True"])


def test_a_query_of_standard_input_of_a_key_and_with_an_equals_sign(model: Path, docs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "my.index"
    run("index", docs, f"model={model}", r"prompt=moon : {text} \n ?", "-o", folder)
    assert Index.open(folder).description.encoder["prompt"] == "moon : {text} \n ?"
    found = [
        run("search", folder, "-", "--json", given="tide moon"),
        run("search", folder, "query=tide moon", "--json"),
    ]
    assert found[0] == found[1]
    assert run("search", folder, "tide moon = what?", "n=1")[0] == 0
    for name in ("hits.jsonl", "hits-2.jsonl"):
        assert run("search", folder, "tide", "n=3", "-o", tmp_path / "hits.jsonl") == (
            0, f"attngraft: {tmp_path / name} written, 3 hits\n",
        )  # fmt: skip
    assert len((tmp_path / "hits-2.jsonl").read_text().splitlines()) == 3


def test_bad_input_is_one_sentence(model: Path, docs: Path, tmp_path: Path) -> None:
    folder, empty = tmp_path / "its.index", tmp_path / "empty.jsonl"
    empty.touch()
    run("index", docs, f"model={model}", "-o", folder)
    for words, said, status in [
        (["searchh", folder, "x"], f"expected one source or a verb, got searchh {folder} x; did you mean search?", 2),
        (["index", docs], "say what to index and with which model", 2),
        (["index", docs, f"model={model}", "poolin=mean"], "did you mean pooling?", 2),
        (["index", empty, f"model={model}"], "empty.jsonl is empty; give it at least one text or image", 1),
        (["index", tmp_path / "none.jsonl", f"model={model}"], "none.jsonl does not exist", 1),
        (["index", docs, f"model={tmp_path / 'none'}"], "none does not exist; give the folder of a text model", 1),
        (["index", docs, f"model={model}", "layers=7"], "the model has layers 0 to 2 (or -1 to -3), got layers=7", 2),
        (["index", docs, f"model={model}", "imgsz=64"], "no option 'imgsz'", 2),
        (["index", docs, f"model={model}", "layers=0", "-o", folder], "was built with layers=[2] and not [0]", 2),
        (["index", docs, f"model={model}", "-o", tmp_path], "exists and is no index; choose another folder", 1),
        (["search", folder], "say which index and what to find", 2),
        (["search", tmp_path / "none", "x"], "is no index (index.json: No such file or directory)", 1),
        (["search", folder, " "], "a query needs words", 2),
        (["search", folder, "x", "n=0"], "n to be a positive integer, got 0", 2),
        (["search", folder, "x", "wheres=even"], "did you mean where?", 2),
        (["search", folder, "x", "where=evn = 1"], "did you mean even?", 2),
        (["search", folder, "x", "where=even = 1"], "where compares even to 1, a number; it holds true or false", 2),
        (["search", folder, "x", "parts=crops"], "parts to be one of 'sentences'", 2),
        (["search", folder, "x", f"output={tmp_path / 'docs.jsonl' / 'a'}"], "cannot write", 1),
    ]:
        code, output = run(*words)
        assert said in output, (words, output)
        assert code == status, (words, output)
        assert "Traceback" not in output
    assert not Path("my.index").exists()


def test_the_keys_of_help_and_completion_are_taken() -> None:
    from inspect import signature

    from attngraft.cli.retrieve_keys import IMAGE_KEYS, INDEX_KEYS, SEARCH_KEYS, TEXT_KEYS
    from attngraft.retrieve import ImageEncoder, TextEncoder

    of_build = {*signature(Index.build).parameters} - {"progress", "path", "options"} | {"output", "batch", "layers"}
    assert {*INDEX_KEYS} - {*TEXT_KEYS} - {*IMAGE_KEYS} == of_build
    assert {*TEXT_KEYS} | {"model", "batch", "layers", "preset", "tokenizer"} == {*signature(TextEncoder).parameters}
    assert {*IMAGE_KEYS} | {"model", "batch", "layers"} == {*signature(ImageEncoder).parameters}
    assert {*SEARCH_KEYS} - {"output", "model"} == {*signature(Index.search).parameters} - {"self", "progress"}


def test_mine_writes_a_list_reasons_a_sheet_and_a_page(tmp_path: Path) -> None:
    from attngraft.data import factors
    from attngraft.yolo import YOLO

    model = YOLO("attngraft-micro.yaml+mhsa(init=paper)@P3")
    model.save(tmp_path / "best.pt")
    images = factors(tmp_path / "set", train=6, val=1).parent / "images"
    (tmp_path / "failures.txt").write_text(f"{images / 'val/00000.png'} 10 10 40 40\n")
    asked = [f"model={tmp_path / 'best.pt'}", f"source={images / 'train'}", f"like={tmp_path / 'failures.txt'}", "n=3"]
    for folder in ("mined", "mined-2"):
        result = CliRunner().invoke(main, ["retrieve", "mine", *asked, "imgsz=96", "-o", str(tmp_path / "mined")])
        assert f"attngraft: {tmp_path / folder} holds 3 images like 1 miss" in result.output, result.output
        names = {file.name for file in (tmp_path / folder).iterdir()}
        assert names == {"images.txt", "mined.json", "sheet.png", "index.html"}
    result = CliRunner().invoke(main, ["retrieve", "mine", *asked[:2]])
    assert result.exit_code == 2
    assert "say the model, the images to search and the misses" in result.output
