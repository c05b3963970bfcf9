"""Recompute the published figures of Multi-Head RAG from the results file of its authors.

    python benchmarks/retrieve/published.py 25_random_sfr.json

The file is in ``paper/results.tar.bz2`` of spcl/MRAG (commit b8a8b8b, BSD-3-Clause), which you download yourself. It
holds the ratios of every query, for 1 to 32 documents, of two 7B encoders. They go through the intervals and the
weighted ratio of `attngraft.retrieve`, and stand beside chance, which the paper does not print.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TypeAlias

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.retrieve.text import wiki

from attngraft._core.errors import DataError
from attngraft.retrieve.evaluation.intervals import Interval, intervals
from attngraft.retrieve.evaluation.measures import Array, category_chance, weighted

Ratios: TypeAlias = dict[str, dict[int, tuple[Array, Array]]]
"""Of each strategy and number of aspects: ratios of documents and of categories, ``(documents fetched, queries)``."""


def read_published(file: Path) -> Ratios:
    """Read the ratios of a results file.

    Raises:
        DataError: If it is none.
    """
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return {
            strategy: {
                int(aspects): (np.array(of["rat"], float), np.array(of["category_rat"], float))
                for aspects, of in by_aspects.items()
            }
            for strategy, by_aspects in stored.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is no results file of spcl/MRAG ({error}); it has rat and category_rat") from error


def figures(ratios: Ratios, strategy: str, aspects: int, n: int, weight: float = 2.0) -> tuple[Interval, ...]:
    """Return the success ratio, the category ratio and both weighted, at n documents."""
    documents, categories = (of[n - 1] for of in ratios[strategy][aspects])
    return tuple(intervals(np.stack([documents, categories, weighted(documents, categories, weight)], axis=1)))


def main() -> None:
    """Read the options and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--n", type=int, default=20)
    options = parser.parse_args()
    ratios, benchmark = read_published(options.results), wiki()
    chance = category_chance(benchmark.judged, benchmark.categories("category"), options.n)[:, -1].mean()
    print(f"chance: documents {options.n / len(benchmark.documents):.3f}, categories {chance:.3f}")
    for strategy, by_aspects in ratios.items():
        for aspects in sorted(by_aspects):
            said = [
                f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"
                for one in figures(ratios, strategy, aspects, options.n)
            ]
            print(f"{strategy}, {aspects} aspects: documents {said[0]}, categories {said[1]}, weighted {said[2]}")


if __name__ == "__main__":
    main()
