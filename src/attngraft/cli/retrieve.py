"""``attngraft retrieve``: index texts or images by attention heads, search them, and evaluate."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attngraft._core.errors import suggest
from attngraft._core.files import require_writable
from attngraft.cli import pairs
from attngraft.cli.groups import Verbs
from attngraft.cli.groups import output as output_option
from attngraft.cli.groups import words as words_argument
from attngraft.cli.retrieve_keys import EVAL_KEYS, INDEX, INDEX_KEYS, MINE_KEYS, MINED, SEARCH_KEYS

if TYPE_CHECKING:
    from attngraft.retrieve import Hit


@click.group(cls=Verbs)
def retrieve() -> None:
    r"""Find texts or images by what each attention head says of them: Multi-Head RAG.

    \b
    attngraft retrieve index docs.jsonl model=models/SmolLM2 -o my.index
    attngraft retrieve index images/ model=best.pt -o images.index
    attngraft retrieve search my.index "a story of tides and ports" n=20 where="split = 'val'"
    attngraft retrieve eval my.index beir=my_benchmark -o report.html

    Each verb has a --help of its own.
    """


@retrieve.command()
@words_argument("retrieve index", "SOURCE model=MODEL KEY=VALUE ...")
@output_option("Folder of the index; one that is there is completed.", INDEX)
def index(words: tuple[str, ...], output: Path | None) -> None:
    r"""Index texts or images; the same command completes what a stopped one left.

    \b
    attngraft retrieve index docs.jsonl model=models/MiniLM pooling=mean preset=none center=True dtype=float16
    attngraft retrieve index corpus/ model=models/SmolLM2 gguf_file=model.gguf -o my.index

    Texts are lines of JSON with _id, text and fields to filter by, or a folder of the BEIR layout. Images are a folder,
    a list in a .txt file, or a data.yaml. precision= is that of a text model's weights, dtype= that of the stored keys.
    """
    named, options = _read(words)
    folder = Path(pairs.take(options, "retrieve index", "output", given=output) or INDEX)
    pairs.require_known("retrieve index", options, tuple(INDEX_KEYS))
    source = options.pop("source", None) or (named.pop(0) if named else None)
    model = options.pop("model", None)
    if named:
        said = " ".join(map(str, (source, *named)))
        raise click.UsageError(
            f"expected one source or a verb, got {said}; {suggest(str(source), list(retrieve.commands))}"
        )
    if source is None or model is None:
        raise click.UsageError(
            "say what to index and with which model, as in: attngraft retrieve index docs.jsonl model=DIR"
        )
    from attngraft.retrieve import Index

    with _progress() as progress:
        built = Index.build(str(source), model=str(model), path=folder, progress=progress, **_for_encoder(options))
    items = "1 item" if len(built) == 1 else f"{len(built)} items"
    click.echo(f"attngraft: {folder} holds {items}, {built.store.heads} heads x {built.store.dim}")


@retrieve.command()
@words_argument("retrieve search", 'INDEX "A QUERY" KEY=VALUE ...')
@output_option("File to write, one hit a line in JSON; the next free name is taken if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line instead of the table.")
def search(words: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    r"""Search an index, and say which heads found what.

    \b
    attngraft retrieve search my.index "a story of tides and ports" n=20 where="split = 'val' AND year >= 1990"
    attngraft retrieve search my.index - parts=sentences < story.txt
    attngraft retrieve search images.index street.jpg parts=crops --json

    The query is a text, - for standard input, or the path of an image. Each row names the heads that voted for an item,
    with its rank among their nearest from 0.
    """
    named, options = _read(words)
    file = pairs.take(options, "retrieve search", "output", given=output)
    pairs.require_known("retrieve search", options, tuple(SEARCH_KEYS))
    query = options.pop("query", None)
    if query is not None:
        named.append(str(query))
    if len(named) != 2:
        raise click.UsageError('say which index and what to find, as in: attngraft retrieve search my.index "a story"')
    from attngraft.retrieve import Index

    asked = sys.stdin.read() if named[1] == "-" else named[1]
    with _progress() as progress:
        opened = Index.open(named[0], model=options.pop("model", None))
        hits = opened.search(asked, options.pop("n", 20), progress=progress, **options)
    lines = [json.dumps(asdict(hit), ensure_ascii=False) for hit in hits]
    if file is not None:
        from attngraft._core.files import free_file, write_text

        free = free_file(Path(file))
        write_text(free, "".join(f"{line}\n" for line in lines))
        click.echo(f"attngraft: {free} written, {len(hits)} hits")
    elif as_json:
        for line in lines:
            click.echo(line)
    else:
        _print(hits)


@retrieve.command("eval")
@words_argument("retrieve eval", "INDEX beir=FOLDER KEY=VALUE ...")
@output_option(EVAL_KEYS["output"], "report.html")
def evaluate(words: tuple[str, ...], output: Path | None) -> None:
    r"""Evaluate an index on a benchmark in the layout of BEIR, beside its controls.

    \b
    attngraft retrieve eval my.index beir=my_benchmark -o report.html
    attngraft retrieve eval my.index beir=my_benchmark rows=standard,mrag,tfidf n=10 -o results/
    attngraft retrieve eval my.index beir=my_benchmark runs=other.run measures=nDCG@10,RR

    The index holds the benchmark's corpus. Rows: chance (always), standard, standard-centred, mmr, joined,
    joined-centred, split, mrag, mrag-centred, mrag-equal, mrag-rrf, parts, parts-mrag, fusion, tfidf, bm25.
    """
    from attngraft.cli.retrieve_eval import run_eval

    run_eval(words, output)


@retrieve.command()
def schema() -> None:
    """Print the JSON schema of an evaluation's results.json, for editors and programs."""
    from attngraft.retrieve.evaluation import schema as results_schema

    click.echo(json.dumps(results_schema(), indent=2))


@retrieve.command()
@words_argument("retrieve mine", "model=MODEL source=IMAGES like=MISSES KEY=VALUE ...")
@output_option("Folder to write; the next free name is taken if it exists.", MINED)
def mine(words: tuple[str, ...], output: Path | None) -> None:
    r"""Find more images like those that a detector failed on, to label them next.

    \b
    attngraft retrieve mine model=best.pt source=unlabelled/ like=data.yaml n=200 -o mined
    attngraft retrieve mine model=best.pt source=unlabelled/ like=failures.txt diverse=False parts=crops

    like= is a data.yaml whose val labels are compared with the detections, or a .txt file with an image in each line
    and behind it left, top, right and bottom of a missed object in pixels, or nothing for the whole image. The folder
    gets images.txt, mined.json (which miss and which heads found an image), sheet.png and index.html.
    """
    named, options = _read(words)
    folder = Path(pairs.take(options, "retrieve mine", "output", given=output) or MINED)
    pairs.require_known("retrieve mine", options, tuple(MINE_KEYS))
    required = [str(options.pop(key)) for key in ("model", "source", "like") if options.get(key) is not None]
    if len(required) < 3 or named:
        raise click.UsageError(
            "say the model, the images to search and the misses, as in: "
            "attngraft retrieve mine model=best.pt source=unlabelled/ like=data.yaml"
        )
    require_writable(folder)
    from attngraft.retrieve.contact import said_misses
    from attngraft.retrieve.mining import mine as run

    with _progress() as progress:
        found = run(*required, progress=progress, **options)
        written = found.save(folder)
    click.echo(f"attngraft: {written} holds {len(found.images)} images like {said_misses(len(found.misses))}")


def _read(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Tell words from ``key=value``: a query may hold a ``=`` behind several words."""
    options = [word for word in words if re.match(r"\s*\w+\s*[=＝]", word)]
    return [word for word in words if word not in options], pairs.parse(options)


def _for_encoder(options: dict[str, Any]) -> dict[str, Any]:
    r"""Return options as `Index.build` takes them; a shell writes a line break as ``\n``."""
    for key in ("prompt", "document"):
        if key in options:
            options[key] = str(options[key]).replace("\\n", "\n")
    return options


def _progress() -> Any:
    from attngraft.cli.output import console
    from attngraft.cli.progress import StatusLine

    return StatusLine(console(stderr=True))


def _print(hits: Iterable[Hit]) -> None:
    from rich.table import Table

    from attngraft.cli.output import console

    table = Table(box=None, pad_edge=False)
    for name in ("", "id", "votes", "heads (rank)", "fields"):
        table.add_column(name, justify="right" if name in ("", "votes") else "left", overflow="fold")
    for number, hit in enumerate(hits, 1):
        heads = " ".join(f"{one.head}({one.rank})" for one in hit.by_head[:8]) + (
            " ..." if len(hit.by_head) > 8 else ""
        )
        fields = ", ".join(f"{name}={value}" for name, value in hit.fields.items())
        table.add_row(str(number), hit.id, f"{hit.votes:.4g}", heads, fields[:80])
    console(least=60).print(table)
