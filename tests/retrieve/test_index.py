"""`attngraft.retrieve.Index`, with keys that need no model; the models' own are in test_text.py and test_images.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft._core.progress import Silent
from attngraft.retrieve import Index, Item, Keys
from tests.retrieve.toy import DIM, HEADS, Letters

DOCS = [
    {"_id": f"d{n}", "text": f"text number {n}", "split": "val" if n % 4 == 0 else "train", "n": n} for n in range(23)
]


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def paper_weights(documents: np.ndarray) -> list[float]:
    """Return s_h as the paper's code does, over all pairs of documents, each with itself too."""
    count, heads, _ = documents.shape
    weights = []
    for head in range(heads):
        vectors = documents[:, head].astype(np.float64)
        lengths = [float(np.sqrt((vector * vector).sum())) for vector in vectors]
        distances = [
            1 - float(one @ other) / (lengths[i] * lengths[j])
            for i, one in enumerate(vectors)
            for j, other in enumerate(vectors)
        ]
        weights.append(sum(lengths) / count * sum(distances) / count**2)
    return weights


def paper(documents: np.ndarray, query: np.ndarray, n: int, deep: int) -> list[int]:
    """Rank as the paper's code does, literally: every head's nearest, s_h 2^-r summed over heads."""
    scores: dict[int, float] = {}
    for head, weight in enumerate(paper_weights(documents)):
        asked, distances = query[head].astype(np.float64), []
        for vector in documents[:, head].astype(np.float64):
            distances.append(1 - float(asked @ vector) / float(np.linalg.norm(asked) * np.linalg.norm(vector)))
        for rank, item in enumerate(sorted(range(len(documents)), key=lambda at: (distances[at], at))[:deep]):
            scores[item] = scores.get(item, 0) + weight * 2.0**-rank
    return sorted(scores, key=lambda item: -scores[item])[:n]


def test_rankings_are_the_papers() -> None:
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(1, HEADS, DIM)) * rng.uniform(0, 3, (1, HEADS, 1))
    documents = (rng.normal(size=(60, HEADS, DIM)) * rng.uniform(0.3, 4, (1, HEADS, 1)) + mean).astype(np.float32)
    queries = (rng.normal(size=(10, HEADS, DIM)) + mean).astype(np.float32)
    index = Index.build(["to go"], model=Letters())
    index.delete(list(index.ids))
    index.store.add(Keys(tuple(map(str, range(60))), documents, documents.reshape(60, -1)))
    for query in queries:
        keys = Keys(("q",), query[None], query.reshape(1, -1))
        for n in (5, 20, 40):
            assert [int(hit.id) for hit in index.search(keys, n)] == paper(documents, query, n, max(n, 32))


def test_a_text_finds_itself_and_says_why() -> None:
    index = Index.build(DOCS, model=Letters())
    hit = index.search("text number 7", 3)[0]
    assert hit.id == "d7"
    assert sorted((one.head, one.rank) for one in hit.by_head) == [(head, 0) for head in range(HEADS)]
    assert hit.votes == pytest.approx(index.importance().sum(), rel=1e-6)
    assert hit.fields == {"split": "train", "n": 7}
    assert [one.similarity for one in hit.by_head] == pytest.approx([1] * HEADS, rel=1e-5)
    assert repr(index) == "Index(23 items, 3 heads x 4 of letters)"


def test_a_filter_and_too_many_are_said() -> None:
    index, said = Index.build(DOCS, model=Letters()), Said()
    found = index.search("text number 7", 20, where="split = 'val' AND n > 4", progress=said)
    assert {hit.fields["n"] for hit in found} == {8, 12, 16, 20}
    assert len(index.search("x", 99, progress=said)) == 23
    assert said.lines == [
        "asked for 20, and the index has 4 that the filter lets pass",
        "asked for 99, and the index has 23 items",
    ]


def test_parts_vote_together() -> None:
    index = Index.build(DOCS, model=Letters())
    for parts in ("sentences", ["text number 3", "text number 9"]):
        found = index.search("text number 3.text number 9", 2, parts=parts)
        assert {hit.id for hit in found} == {"d3", "d9"}
        assert {one.head for hit in found for one in hit.by_head} == set(range(HEADS))


def test_centring_moves_both_sides_and_the_weights() -> None:
    index = Index.build(DOCS, model=Letters())
    stored = index.store.keys()
    moved = stored.heads - stored.heads.mean(0)
    query = next(iter(Letters().keys([Item("q", text="another")])))
    wanted = paper(moved, (query.heads - stored.heads.mean(0))[0], 6, 32)
    assert [hit.id for hit in index.search("another", 6, center=True)] == [f"d{row}" for row in wanted]
    assert [hit.id for hit in Index.build(DOCS, model=Letters(), center=True).search("another", 6)] == [
        f"d{row}" for row in wanted
    ]
    assert not np.allclose(index.importance(), index.importance(center=True))


@pytest.fixture(params=["arrays", "lance"])
def store(request: pytest.FixtureRequest) -> str:
    if request.param == "lance":
        pytest.importorskip("lancedb", reason="needs lancedb: pip install 'attngraft[retrieve-db]'")
    return str(request.param)


def test_an_index_lives_on_in_its_folder(tmp_path: Path, store: str) -> None:
    folder = tmp_path / "my.index"
    index = Index.build(DOCS[:20], model=Letters(), path=folder, dtype="float16", standard=False, store=store)
    index.delete(["d1", "d2"])
    index.add(DOCS[20:])
    index.delete("d3")
    opened = Index.open(folder, model=Letters())
    assert list(opened.ids) == [f"d{n}" for n in range(23) if n not in (1, 2, 3)]
    assert [h.id for h in opened.search("text number 22", 4)] == [h.id for h in index.search("text number 22", 4)]
    assert opened.store.width == 0
    assert opened.search("text number 22", 1, where="split = 'train' AND n > 3")[0].fields == {
        "split": "train",
        "n": 22,
    }
    described = json.loads((folder / "index.json").read_text())
    assert described["settings"] == {"center": False, "rule": "decay", "depth": 32}


def test_what_is_kept_in_memory_is_saved_where_nothing_is(tmp_path: Path) -> None:
    index = Index.build(DOCS[:20], model=Letters())
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="full exists and is no index; choose another folder"):
        index.save(tmp_path / "full")
    with pytest.raises(OutputError, match="full exists and is no index"):
        Index.build(DOCS, model=Letters(), path=tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    index.save(tmp_path / "my.index")
    index.add(DOCS[20:])
    assert list(Index.open(tmp_path / "my.index").ids) == [of["_id"] for of in DOCS]
    index.delete(index.ids)
    index.save(tmp_path / "none.index")
    assert list(Index.open(tmp_path / "none.index").ids) == []


def test_the_same_call_completes_what_is_missing(tmp_path: Path, store: str) -> None:
    Index.build(DOCS[:9], model=Letters(), path=tmp_path / "i", store=store)
    encoder = Letters()
    index = Index.build(DOCS, model=encoder, path=tmp_path / "i", store=store)
    assert encoder.encoded == [f"d{n}" for n in range(9, 23)]
    assert len(index) == 23
    changed = [{**DOCS[0], "text": "another text"}, *DOCS[1:]]
    with pytest.raises(DataError, match=r"'d0' is not what the index has under this id \(1 items changed\)"):
        Index.build(changed, model=Letters(), path=tmp_path / "i", store=store)
    other = {"arrays": "lance", "lance": "arrays"}[store]
    with pytest.raises(OptionError, match=f"i was built with store={store}, got store={other}; build another index"):
        Index.build(DOCS, model=Letters(), path=tmp_path / "i", store=other)


def test_the_same_call_takes_fields_that_have_changed(tmp_path: Path, store: str) -> None:
    before = Index.build(DOCS, model=Letters(), path=tmp_path / "i", store=store)
    importance, keys = before.importance(), before.store.keys(["d3"])
    now = [{**one, "shelf": float("nan")} for one in DOCS]
    now[3] = {**DOCS[3], "shelf": 7}
    encoder, said = Letters(), Said()
    index = Index.build(now, model=encoder, path=tmp_path / "i", store=store, progress=said)
    assert encoder.encoded == []
    assert said.lines == ["23 of 23 items have other fields now, which are taken"]
    assert [hit.id for hit in index.search("tide", where="shelf = 7")] == ["d3"]
    np.testing.assert_allclose(index.store.keys(["d3"]).heads, keys.heads, rtol=1e-6)
    np.testing.assert_allclose(index.importance(), importance, rtol=1e-6)
    said.lines.clear()
    again = Index.build(now, model=encoder, path=tmp_path / "i", store=store, progress=said)
    assert (said.lines, encoder.encoded, len(again)) == ([], ["query"], 23)


def test_items_stay_whose_new_fields_cannot_be_stored(tmp_path: Path, store: str) -> None:
    Index.build(DOCS, model=Letters(), path=tmp_path / "i", store=store)
    too_large = [{**one, "n": 10**400} for one in DOCS]
    if store == "arrays":
        last = json.loads((tmp_path / "i/manifest.json").read_text())["last"]
        (tmp_path / f"i/keys-{last + 1:06d}.safetensors").mkdir()  # where the next file goes
    with pytest.raises((DataError, OutputError), match=r"too large for LanceDB|safetensors is a folder"):
        Index.build(too_large, model=Letters(), path=tmp_path / "i", store=store)
    opened = Index.open(tmp_path / "i", model=Letters())
    assert sorted(opened.ids) == sorted(of["_id"] for of in DOCS)
    assert opened.search("text number 7", 1)[0].fields == {"split": "train", "n": 7}


class Pictures(Letters):
    """Letters that takes images, and reads none."""

    kind = "images"


@pytest.mark.parametrize("changed", [{"left": 1.0}, {"bottom": 9.0}, {"cut": True}])
def test_another_part_of_the_same_image_is_another_item(tmp_path: Path, store: str, changed: dict[str, float]) -> None:
    (tmp_path / "a.png").write_bytes(b"pixels")
    whole, box = Item("a", path=tmp_path / "a.png"), {"left": 0.0, "top": 0.5, "right": 4.0, "bottom": 8.0, "n": 1.0}
    part = Item("a#1", path=tmp_path / "a.png", fields=box)
    Index.build([whole, part], model=Pictures(), path=tmp_path / "i", store=store)
    again = Item("a#1", path=tmp_path / "a.png", fields={**box, "n": 2.0, "left": 0})
    index = Index.build([whole, again], model=Pictures(), path=tmp_path / "i", store=store)
    assert (len(index), index.store.fields(["a#1"])[0]["n"]) == (2, 2.0)
    moved = Item("a#1", path=tmp_path / "a.png", fields={**box, **changed})
    with pytest.raises(DataError, match=r"'a#1' is not what the index has under this id \(1 items changed\)"):
        Index.build([whole, moved], model=Pictures(), path=tmp_path / "i", store=store)


def test_a_process_that_is_killed_is_completed_by_the_next(tmp_path: Path, store: str) -> None:
    docs, folder = tmp_path / "docs.jsonl", tmp_path / "my.index"
    lines = [json.dumps({"_id": f"d{n}", "text": f"text {n}"}) for n in range(240)]
    docs.write_text("\n".join(lines), encoding="utf-8")
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.retrieve.toy", str(docs), str(folder), store]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as building:
        assert building.stdout is not None
        for _ in range(5):
            building.stdout.readline()
        building.kill()
        finished = building.stdout.read().split()[-1:] or ["20"]
    before = list(Index.open(folder).ids)
    assert int(finished[0]) <= len(before) < 240
    encoder = Letters()
    index = Index.build(docs, model=encoder, path=folder, store=store)
    assert encoder.encoded == [f"d{n}" for n in range(240) if f"d{n}" not in before]
    whole = Index.build(docs, model=Letters())
    assert list(index.ids) == list(whole.ids)
    found, wanted = index.search("text 5 6", 9), whole.search("text 5 6", 9)
    assert [hit.id for hit in found] == [hit.id for hit in wanted]
    assert [hit.votes for hit in found] == pytest.approx([hit.votes for hit in wanted], rel=1e-5)


def test_an_index_of_another_encoder_is_refused(tmp_path: Path) -> None:
    Index.build(DOCS, model=Letters(), path=tmp_path / "i")
    with pytest.raises(OptionError, match=r"i was built with seed=0 and not 1; keys of both cannot be compared"):
        Index.build(DOCS, model=Letters(1), path=tmp_path / "i")
    with pytest.raises(OptionError, match="i was built with seed=0 and not 1"):
        Index.open(tmp_path / "i", model=Letters(1)).search("x")
    with pytest.raises(OptionError, match="i was built with other weights than letters"):
        Index.open(tmp_path / "i", model=Letters(dead=True)).add(["x"])
    with pytest.raises(OptionError, match="i was built with center=False, got center=True"):
        Index.build(DOCS, model=Letters(), path=tmp_path / "i", center=True)
    with pytest.raises(OptionError, match="keeps standard=True and dtype=float32, got standard=True and dtype=float16"):
        Index.build(DOCS, model=Letters(), path=tmp_path / "i", dtype="float16")


def test_a_dead_head_is_told_of_once() -> None:
    index, said = Index.build(DOCS, model=Letters(dead=True)), Said()
    with pytest.warns(UserWarning, match=r"the keys of 1 of 3 heads are all zero \(2\); they do not vote"):
        hit = index.search("text number 7", 1)[0]
    assert hit.id == "d7"
    assert index.importance()[2] == 0
    index.search("text number 7", 1, progress=said)
    assert said.lines == []


def test_one_document_is_found() -> None:
    index = Index.build(DOCS[:1], model=Letters())
    assert index.importance().tolist() == [1, 1, 1]
    for center in (False, True):
        assert [(hit.id, hit.votes) for hit in index.search("anything", 1, center=center)] == [("d0", 3)]


def test_what_cannot_work_is_said_in_one_sentence(tmp_path: Path) -> None:
    index = Index.build(DOCS, model=Letters())
    for ask, error, said in [
        (lambda: index.search(" \n"), OptionError, r"a query needs words, got ' \\n'"),
        (lambda: index.search("x", parts=["a", ""]), OptionError, "a part 2 needs words, got ''"),
        (lambda: index.search("x", parts=[]), OptionError, "a query needs at least one part"),
        (lambda: index.search("x", 0), OptionError, "n to be a positive integer, got 0"),
        (lambda: index.search("x", rule="borda"), OptionError, "rule to be one of"),
        (lambda: index.search("x", center="yes"), OptionError, "center to be True or False, got 'yes'"),  # type: ignore[arg-type]
        (lambda: index.search("x", where="splitt = 'a'"), OptionError, "did you mean split"),
        (lambda: index.add(DOCS[3:4]), DataError, "has an item 'd3' already"),
        (lambda: index.add([Path("a.png")]), OptionError, "the index is of text, got images"),
        (lambda: index.delete("gone"), DataError, "has no item 'gone'"),
        (lambda: Index.build([], model=Letters()), DataError, "the corpus is empty"),
        (lambda: Index.build(["x"], model=Letters(), preset="papers"), OptionError, "preset to be one of 'paper'"),
        (lambda: Index.build(["x"], model=Letters(), layers=2), OptionError, "layers is an option of a model"),
        (lambda: Index.build(["x"], model=Letters(), store="faiss"), OptionError, "store to be one of"),
        (lambda: Index.build(["x"], model=Letters(), store="lance"), OptionError, "say where with path="),
        (lambda: Index.build([Path("a.png")], model=Letters()), OptionError, "the items are images, and the encoder"),
        (lambda: Index.build(["x", Path("a.png")], model=Letters()), DataError, "either texts or images"),
        (lambda: Index.open(tmp_path), DataError, r"is no index \(index.json: No such file"),
    ]:
        with pytest.raises(error, match=said):
            ask()
    index.delete(list(index.ids))
    with pytest.raises(DataError, match="the index is empty; add items first"):
        index.search("x")


def test_a_description_that_is_damaged(tmp_path: Path) -> None:
    Index.build(DOCS, model=Letters(), path=tmp_path)
    file = tmp_path / "index.json"
    whole = json.loads(file.read_text())
    for wrong, said in [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("[" * 100_000, r"is damaged \(its brackets are nested too deep\)"),
        (json.dumps({**whole, "schema": "attngraft.retrieve/9"}), "has the schema 'attngraft.retrieve/9'"),
        (json.dumps({**whole, "more": 1}), "is damaged"),
        (json.dumps({**whole, "settings": {"rule": "borda"}}), "is damaged"),
    ]:
        file.write_text(wrong)
        with pytest.raises(DataError, match=said):
            Index.open(tmp_path)


def test_a_retriever_is_a_plain_function() -> None:
    retrieve = Index.build(DOCS, model=Letters()).as_retriever(n=2, where="n < 9")
    assert retrieve("text number 8")[0].id == "d8"
    assert len(retrieve("text number 8")) == 2
