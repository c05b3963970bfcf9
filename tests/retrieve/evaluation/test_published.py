"""The paper's own figures, from its authors' results file where the reader has it, and from one of the same form."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from benchmarks.retrieve.published import figures, read_published

from attngraft._core.errors import DataError

VARIABLE = "ATTNGRAFT_MRAG_RESULTS"
PUBLISHED = {
    ("standard-rag", 10): (0.224, 0.340), ("split-rag", 10): (0.244, 0.528), ("mrag", 10): (0.368, 0.644),
    ("standard-rag", 6): (0.460, 0.587), ("mrag", 6): (0.667, 0.840), ("fusion-rag", 25): (0.224, 0.278),
}  # fmt: skip


def test_the_published_figures_of_the_7b_encoder() -> None:
    file = os.environ.get(VARIABLE)
    if not file:
        pytest.skip(
            f"needs {VARIABLE}=25_random_sfr.json of spcl/MRAG, paper/results.tar.bz2, which is not ours to ship"
        )
    ratios = read_published(Path(file))
    for (strategy, aspects), (documents, categories) in PUBLISHED.items():
        found = figures(ratios, strategy, aspects, 20)
        assert (found[0].mean, found[1].mean) == pytest.approx((documents, categories), abs=5e-4)


def test_a_file_of_that_form_is_read(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rat, category = random.random((32, 25)), random.random((32, 25))
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"mrag": {"10": {"rat": rat.tolist(), "category_rat": category.tolist()}}}))
    found = figures(read_published(file), "mrag", 10, 20)
    assert found[0].mean == pytest.approx(rat[19].mean())
    assert found[1].mean == pytest.approx(category[19].mean())
    assert found[2].mean == pytest.approx((2 * rat[19] + category[19]).mean() / 3)
    assert found[0].low < found[0].mean < found[0].high


@pytest.mark.parametrize("text", ["{}}", '{"mrag": {"10": {"rat": []}}}', "[1]"])
def test_what_is_no_such_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(DataError, match="is no results file of spcl/MRAG"):
        read_published(tmp_path / "other.json")
