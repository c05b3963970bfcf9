"""``attngraft retrieve eval``: from a tiny text model to a page, results and run files; bad input in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from attngraft.cli import main
from attngraft.retrieve import Index
from attngraft.retrieve.evaluation import METHODS, Results
from tests.retrieve import families

TEXTS = ["tide moon", "sea sun ship port", "storm wind sail mast", "rope knot anchor", "sand wave coast", "cliff chart"]
QUERIES = {
    "q0": ("tide moon. storm wind.", ["d0", "d2"]),
    "q1": ("rope knot", ["d3"]),
    "q2": ("sea? coast", ["d1", "d4"]),
}


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    folder = tmp_path / "ports"
    folder.mkdir()
    corpus = [{"_id": f"d{n}", "text": text, "category": "ab"[n % 2]} for n, text in enumerate(TEXTS)]
    queries = [{"_id": name, "text": text} for name, (text, _) in QUERIES.items()]
    for name, lines in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    qrels = [f"{query}\t{document}\t1" for query, (_, wanted) in QUERIES.items() for document in wanted]
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(qrels), encoding="utf-8")
    return folder


@pytest.fixture
def index(benchmark: Path, tmp_path: Path) -> Path:
    model = tmp_path / "model"
    families.network("bert").save_pretrained(model)
    families.tokenizer().save_pretrained(model)
    Index.build(benchmark, model=str(model), path=tmp_path / "my.index", pooling="mean", preset=None)
    return tmp_path / "my.index"


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["retrieve", *map(str, words)])
    return result.exit_code, result.output


def test_a_page_of_all_rows(index: Path, benchmark: Path, tmp_path: Path) -> None:
    page = tmp_path / "seen.html"
    code, said = run("eval", index, f"beir={benchmark}", "n=2", "-o", page)
    assert code == 0, said
    assert f"attngraft: {page} written" in said
    lines = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.split()}
    assert set(METHODS) <= set(lines)
    assert lines["chance"] == ["0.333"] * 3 + [lines["chance"][-1]]
    assert lines["tfidf"][:3] == ["1.000"] * 3
    assert "mrag - standard:" in said
    assert "95 % interval" in said
    assert run("eval", index, f"beir={benchmark}", "rows=mrag", f"output={page}")[1].endswith("seen-2.html written\n")


def test_a_folder_and_results(index: Path, benchmark: Path, tmp_path: Path) -> None:
    code, said = run(
        "eval", index, f"beir={benchmark}", "rows=standard,mrag", "measures=nDCG@2,RR", "-o", tmp_path / "out"
    )
    assert code == 0, said
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "mrag.run", "report.html", "results.json", "standard.run",
    ]  # fmt: skip
    results = Results.load(tmp_path / "out/results.json")
    assert [row.name for row in results.rows] == ["chance", "standard", "mrag"]
    assert set(results.row("mrag").further) == {"nDCG@2", "RR"}
    again = tmp_path / "again.json"
    code, said = run(
        "eval", index, f"beir={benchmark}", "rows=mrag", f"runs={tmp_path / 'out/standard.run'}", "-o", again
    )
    assert code == 0, said
    assert Results.load(again).row("standard").scores == results.row("standard").scores
    code, said = run("schema")
    assert code == 0
    jsonschema.validate(json.loads(again.read_text()), json.loads(said))


def test_bad_input_is_one_sentence(index: Path, benchmark: Path, tmp_path: Path) -> None:
    for words, said, status in [
        ([index], "say which index and which benchmark", 2),
        ([index, f"beir={tmp_path / 'none'}"], "is no folder; give one with corpus.jsonl", 1),
        ([tmp_path, f"beir={benchmark}"], "index", 1),
        ([index, f"beir={benchmark}", "rows=mragg"], "did you mean mrag", 2),
        ([index, f"beir={benchmark}", "row=mrag"], "did you mean rows", 2),
        ([index, f"beir={benchmark}", "n=0"], "n to be a positive integer, got 0", 2),
        ([index, f"beir={benchmark}", "rows=mrag", "-o", tmp_path / "a.pdf"], "-o takes a page", 2),
        ([index, f"beir={benchmark}", "runs=gone.run", "rows=mrag"], "cannot be read as a TREC run file", 1),
    ]:
        code, output = run("eval", *words)
        assert code == status, output
        assert said in output
        assert "Traceback" not in output


def test_a_place_that_cannot_be_written_is_told_before_the_work(benchmark: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, said = run("eval", tmp_path / "no.index", f"beir={benchmark}", "-o", tmp_path / "file" / "report.html")
    assert (code, said.split("cannot write ")[1].split("; ")[1]) == (1, "choose another folder\n")
    mined = run("mine", "model=no.pt", "source=gone", "like=gone.txt", "-o", tmp_path / "file" / "mined")
    assert "cannot write" in mined[1]
    benched = CliRunner().invoke(main, ["bench", "model=no.pt", "-o", str(tmp_path / "file" / "bench")])
    assert "cannot write" in benched.output
