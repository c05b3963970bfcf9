"""The layout of BEIR, read with and without a heading, and each way to get it wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attngraft._core.errors import DataError
from attngraft.retrieve.evaluation.beir import read_benchmark


def write(folder: Path, qrels: str, name: str = "qrels.tsv") -> Path:
    folder.mkdir(exist_ok=True)
    rows = {
        "corpus": [{"_id": f"d{i}", "title": f"T{i}", "text": f"text {i}", "category": "ab"[i % 2]} for i in range(4)],
        "queries": [{"_id": f"q{i}", "text": f"query {i}"} for i in range(3)],
    }
    for kind, lines in rows.items():
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(qrels)
    return folder


@pytest.mark.parametrize("name", ["qrels.tsv", "qrels/test.tsv"])
@pytest.mark.parametrize("heading", ["query-id\tcorpus-id\tscore\n", ""])
def test_a_benchmark_is_read(tmp_path: Path, name: str, heading: str) -> None:
    found = read_benchmark(write(tmp_path / "small", f"{heading}q2\td1\t1\nq0\td3\t2\nq0\td0\t1\nq0\td2\t0\n", name))
    assert found.name == "small"
    assert [query.id for query in found.queries] == ["q0", "q2"]  # in the order of queries.jsonl
    assert dict(found.judged) == {"q0": {"d3": 2, "d0": 1}, "q2": {"d1": 1}}
    assert found.unjudged == 1
    assert found.categories("category") == {"d0": "a", "d1": "b", "d2": "a", "d3": "b"}
    assert found.categories("colour") == {}


def test_trec_qrels_have_an_iteration(tmp_path: Path) -> None:
    assert dict(read_benchmark(write(tmp_path, "q1\t0\td1\t1\n")).judged) == {"q1": {"d1": 1}}


@pytest.mark.parametrize(
    ("qrels", "said"),
    [
        ("q0\tgone\t1\n", "name document gone of query q0, which is not in the corpus"),
        ("gone\td0\t1\n", "name query gone, which queries.jsonl does not have"),
        ("q0\td0\t1\nq0\td1\tyes\n", "line 2: expected query, document and grade"),
        ("q0\td0\t0.5\nq0\td1\t1\n", "line 1: expected query, document and grade, got 'q0.td0.t0.5'"),
        ("q0 d0 1\nq0\td1\t1\n", "line 1: expected query, document and grade, got 'q0 d0 1'"),
        ("q0\td0\t0\n", "names no relevant document"),
        ("", "names no relevant document"),
    ],
)
def test_qrels_that_do_not_fit(tmp_path: Path, qrels: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_benchmark(write(tmp_path, qrels))


def test_what_is_no_benchmark(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        read_benchmark(tmp_path / "none")
    with pytest.raises(DataError, match=r"corpus\.jsonl"):
        read_benchmark(tmp_path)
    write(tmp_path, "q0\td0\t1\n")
    (tmp_path / "qrels.tsv").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read_benchmark(tmp_path)


def test_the_wiki_benchmark_is_what_its_readme_says(shared_data: Path) -> None:
    found = read_benchmark(shared_data / "mrag_wiki")
    assert (len(found.documents), len(found.queries), found.unjudged) == (1250, 250, 0)
    assert sum(map(len, found.judged.values())) == 2275
    assert len(set(found.categories("category").values())) == 25
