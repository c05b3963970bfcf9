"""Evaluate an index on a benchmark: rank, score, compare, and keep the rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import attngraft
from attngraft._core.checks import positive
from attngraft._core.errors import DataError, OptionError
from attngraft._core.files import free_file, free_path, write_text
from attngraft._core.progress import SILENT, Progress
from attngraft.retrieve.evaluation.beir import Benchmark, read_benchmark
from attngraft.retrieve.evaluation.intervals import RESAMPLES
from attngraft.retrieve.evaluation.measures import measure
from attngraft.retrieve.evaluation.results import Results, Setting
from attngraft.retrieve.evaluation.rows import METHODS, Found, Subject, chosen
from attngraft.retrieve.evaluation.runs import read_run, write_run
from attngraft.retrieve.evaluation.summary import Scored, summarize
from attngraft.retrieve.items import Item
from attngraft.retrieve.keys import Encoder, Keys, gather
from attngraft.retrieve.rank import PAPER_DEPTH, Ranked

PARTS = {"text": "sentences", "images": "crops"}


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation came to, with its rankings.

    Attributes:
        results: Scores, differences and examples.
        rankings: Ids of documents for each row and query, the best first.
    """

    results: Results
    rankings: Mapping[str, Mapping[str, Sequence[str]]]

    def report(self, path: str | Path) -> Path:
        """Write a page that opens offline; if there is one, the next free name is taken: ``report-2.html``.

        Args:
            path: The file, which ends with ``.html``.

        Raises:
            OptionError: If it ends otherwise.
            OutputError: If it cannot be written.
        """
        from attngraft.retrieve.evaluation.page import page

        file = Path(path)
        if file.suffix.lower() != ".html":
            raise OptionError(f"a report is a page and its name ends with .html, got {file.name}; name it report.html")
        free = free_file(file)
        write_text(free, page(self.results))
        return free

    def save_results(self, path: str | Path) -> Path:
        """Write the results as JSON; if there is such a file, the next free name is taken.

        Raises:
            OutputError: If it cannot be written.
        """
        return self.results.save(free_file(Path(path)))

    def save(self, folder: str | Path) -> Path:
        """Write ``results.json`` and a TREC run file ``ROW.run`` for each row into a new folder.

        Args:
            folder: The folder; if there is one that is not empty, the next free name is taken.

        Raises:
            DataError: If an id has white space, which run files cannot hold.
            OutputError: If it cannot be written.
        """
        home = Path(folder)
        home = free_path(home) if home.exists() and not (home.is_dir() and not any(home.iterdir())) else home
        for name, found in self.rankings.items():
            write_run(home / f"{name}.run", found, "_".join(name.split()))
        self.results.save(home / "results.json")
        return home


def evaluate(
    index: Any,
    *,
    beir: str | Path | Benchmark,
    rows: str | Sequence[str] | None = None,
    runs: Sequence[str | Path] = (),
    n: int = 20,
    depth: int = PAPER_DEPTH,
    weight: float = 2.0,
    category: str = "category",
    measures: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate an index on a benchmark in the layout of BEIR, whose corpus it holds.

    Args:
        index: An `attngraft.retrieve.Index` of the benchmark's corpus.
        beir: The benchmark's folder.
        rows: Rows, by the names of `attngraft.retrieve.evaluation.rows.METHODS`; all of them by default, of images
            all but those of words. The row of chance is always there.
        runs: TREC run files of other systems, each a row of its own.
        n: Documents that are retrieved, for all figures but the curves.
        depth: Documents that are ranked, where the curves end and how deep heads vote.
        weight: How many times as much a document counts as a category in the weighted ratio.
        category: The field of a document that holds its category.
        measures: Further measures of ir_measures, such as ``nDCG@10``.
        seed: Of the bootstrap.
        progress: Whom to tell what is being done.

    Raises:
        DataError: If the benchmark cannot be read, or is not the one that the index holds.
        OptionError: If an option makes no sense, or a row cannot be given.
        MissingExtraError: If a package of the extra ``retrieve`` is missing.
    """
    positive("evaluate", n=n, depth=depth)
    names = chosen(rows)
    for name in measures:
        measure(name)
    benchmark = beir if isinstance(beir, Benchmark) else read_benchmark(beir)
    encoder: Encoder = index.encoder
    if not rows and encoder.kind == "images":
        names = [name for name in names if METHODS[name].kind != "words"]
    progress.started("keys of the queries")
    queries = gather(encoder, benchmark.queries, progress)

    def parts() -> list[Keys]:
        progress.started("keys of the parts of the queries")
        return part_keys(encoder, benchmark.queries, progress)

    subject = Subject(index.store, benchmark, queries, max(n, depth), parts)
    return evaluate_keys(
        subject, names, described=dict(encoder.describe()), runs=runs, n=n, weight=weight, category=category,
        measures=measures, seed=seed, progress=progress,
    )  # fmt: skip


def evaluate_keys(
    subject: Subject,
    names: Sequence[str],
    *,
    described: Mapping[str, Any],
    runs: Sequence[str | Path] = (),
    n: int = 20,
    weight: float = 2.0,
    category: str = "category",
    measures: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate keys that are there already; what `evaluate` does after the model has run.

    Args:
        subject: Keys of documents and queries.
        names: Rows.
        described: What describes the keys.
        runs: TREC run files.
        n: Documents that are retrieved.
        weight: Of a document in the weighted ratio.
        category: The field that holds a document's category.
        measures: Further measures of ir_measures.
        seed: Of the bootstrap.
        progress: Whom to tell what is being done.

    Raises:
        DataError: If the store does not hold the benchmark's documents, or a run file cannot be used.
        OptionError: If a row or a measure cannot be given.
    """
    if not weight >= 0 or weight == float("inf"):
        raise OptionError(f"weight= is how many times as much a document counts as a category, got {weight!r}")
    _require_corpus(subject)
    scored: list[Scored] = []
    for name in names:
        progress.started(f"row {name}")
        rank = METHODS[name].rank
        scored.append(Scored(name, METHODS[name].kind, None if rank is None else _by_query(subject, rank(subject))))
    for file in runs:
        scored.append(_of_file(Path(file), subject, [one.name for one in scored]))
    store, benchmark = subject.store, subject.benchmark
    categories = benchmark.categories(category)
    setting = Setting(
        benchmark.name, len(store.ids), len(benchmark.queries), benchmark.unjudged, len(set(categories.values())),
        dict(described), store.heads, store.dim, store.width, n, max(n, subject.depth), weight, RESAMPLES, seed,
        attngraft.__version__,
    )  # fmt: skip
    progress.started("scores and intervals")
    results = summarize(setting, benchmark, categories, scored, store.spaces().importance(), measures)
    rankings = {
        one.name: {query: [hit.id for hit in hits] for query, hits in one.found.items()}
        for one in scored
        if one.found is not None
    }
    return Evaluation(results, rankings)


def part_keys(encoder: Encoder, queries: Sequence[Item], progress: Progress = SILENT) -> list[Keys]:
    """Return the keys of each query's parts: the sentences of a text, the crops of an image."""
    cut = [encoder.parts(query, PARTS[encoder.kind]) for query in queries]
    flat = [
        replace(part, id=f"{query.id}/{number}")
        for query, parts in zip(queries, cut, strict=True)
        for number, part in enumerate(parts)
    ]
    keys = gather(encoder, flat, progress)
    ends, at = [], 0
    for parts in cut:
        ends.append(range(at, at := at + len(parts)))
    return [keys.take(list(rows)) for rows in ends]


def _require_corpus(subject: Subject) -> None:
    """Require the store to hold the benchmark's documents and no others.

    Raises:
        DataError: If it does not.
    """
    stored, wanted = set(subject.store.ids), set(subject.benchmark.documents)
    for number, which in ((len(wanted - stored), "does not hold"), (len(stored - wanted), "holds besides")):
        if number:
            example = sorted(wanted - stored or stored - wanted)[0]
            raise DataError(
                f"the index {which} {number} documents, such as {example}, compared with the corpus of "
                f"{subject.benchmark.name}; build one of that corpus: attngraft retrieve index"
            )


def _by_query(subject: Subject, found: Found) -> dict[str, list[Ranked]]:
    return {query.id: hits for query, hits in zip(subject.benchmark.queries, found, strict=True)}


def _of_file(file: Path, subject: Subject, taken: Sequence[str]) -> Scored:
    """Read a run file as a row under its own name."""
    rankings, benchmark = read_run(file), subject.benchmark
    for query, ranking in rankings.items():
        if absent := [name for name in ranking if name not in benchmark.documents]:
            raise DataError(
                f"{file} names document {absent[0]} for query {query}, which {benchmark.name} does not have"
            )
    if not set(rankings) & set(benchmark.judged):
        raise DataError(f"{file} has no query of {benchmark.name}")
    depth = subject.depth
    found = {query: [Ranked(name, 0.0, ()) for name in rankings.get(query, ())[:depth]] for query in benchmark.judged}
    names = (file.stem, file.name, *(f"{file.stem}-{number}" for number in range(2, len(taken) + 3)))
    return Scored(next(name for name in names if name not in taken), "run", found)
