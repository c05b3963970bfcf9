"""Results of studies and judgements, from their folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from attngraft._core.errors import DataError
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.judging.results import Results
from attngraft.study.layout import RESULTS
from attngraft.study.study import Study


def read_studies(folders: Iterable[Path]) -> list[tuple[str, Results]]:
    """Read the results of studies and judgements.

    Args:
        folders: Their folders.

    Raises:
        DataError: If one has none.
        PlanError: If a study's records are of another plan.
    """
    found = []
    for folder in folders:
        if (folder / FrozenPlan.FILE).is_file():
            results = Study.open(folder).results
        elif (folder / RESULTS).is_file():
            results = Results.load(folder / RESULTS)
        else:
            raise DataError(f"{folder} holds neither a study nor a judgement (plan.yaml or {RESULTS}); check the path")
        found.append((f"{folder.name}: {results.setting.base} on {results.setting.data}", results))
    return found
