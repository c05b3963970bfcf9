"""Screening many recipes with a small budget: successive halving, then a study of the winners on seeds it never saw.

Every rung is a study of its own with one seed: all candidates are trained for a few epochs, the better part goes on to
the next rung with more. The best of many looks better than it is, so nothing of a rung is reported as a gain: the
winners are compared again, on fresh seeds, and on a split that chose nothing where the data have one. Where they have
none, one half of the images chooses and the other confirms; which is which is decided by the file names.

Source: Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attngraft._core.errors import PlanError
from attngraft._core.files import write_text
from attngraft.coco.average_precision import Weights
from attngraft.coco.metrics import metric_values
from attngraft.study.judging.selection import choosing
from attngraft.study.layout import SEARCH
from attngraft.study.plan import Plan, Split
from attngraft.study.study import Study

SEARCH_SEEDS = 1000
"""Seeds of the rungs begin this far above the plan's, so that the winners are confirmed on others."""


@dataclass(frozen=True)
class Rung:
    """One round of a search.

    Attributes:
        candidates: How many are trained.
        epochs: For how long.
    """

    candidates: int
    epochs: int


class Search:
    """Find the most promising of many arms, and find out whether they really help.

    Args:
        plan: The study of the winners; its arms are the candidates.
        folder: Where the rungs and the study go.
        winners: How many to confirm.
        keep: Which part of the candidates goes on: one in so many.
        held_out: The split to confirm on; None takes ``test`` where the data have one, the plan's otherwise.

    Raises:
        PlanError: If there are no more candidates than winners, ``keep`` is below 2, or the plan has folds or a program
            of the user's.
    """

    def __init__(
        self, plan: Plan, *, folder: str | Path, winners: int = 2, keep: int = 3, held_out: Split | None = None
    ) -> None:
        if not 0 < winners < len(plan.arms):
            raise PlanError(f"a search needs more candidates than its {winners} winners, got {len(plan.arms)}")
        if keep < 2:
            raise PlanError(f"keep says that one candidate in so many goes on, 2 or more, got {keep}")
        if plan.folds is not None:
            raise PlanError(
                "a search chooses and confirms on different images, and folds give every image every task; leave folds "
                "out, and study the winners with them afterwards"
            )
        if plan.command is not None:
            raise PlanError(
                "a search trains candidates for a part of the epochs, and a program of yours (command:) has epochs of "
                "its own; compare all of them in a study: attngraft study run"
            )
        self.plan, self.folder = plan, Path(folder)
        self.winners, self.keep = winners, keep
        self.split = held_out or _held_out(plan)

    def rungs(self) -> list[Rung]:
        """Return the rounds, the longest last; each takes about as many epochs in all as the others."""
        candidates = [len(self.plan.arms)]
        while candidates[-1] > self.winners * self.keep:
            candidates.append(math.ceil(candidates[-1] / self.keep))
        epochs, last = int(self.plan.train["epochs"]), len(candidates)
        return [
            Rung(count, max(1, round(epochs / self.keep ** (last - index)))) for index, count in enumerate(candidates)
        ]

    def run(self, **options: Any) -> tuple[Study, dict[Any, str]]:
        """Carry out what is missing of the rungs, then of the study of the winners.

        Args:
            **options: As for `Study.run`.

        Returns:
            The study of the winners, and the runs of it that failed.

        Raises:
            PlanError: If no candidate of a rung could be trained.
        """
        arms = list(self.plan.arms)
        tried: list[Mapping[str, Any]] = []
        rungs = self.rungs()
        for index, rung in enumerate(rungs):
            study = self._rung(index, rung, arms)
            study.run(**{**options, "anyway": True})  # a short rung may find nothing yet
            ranking = self._ranking(study)
            tried.append({**asdict(rung), "ranking": ranking})
            arms = [name for name, _ in ranking][
                : rungs[index + 1].candidates if index + 1 < len(rungs) else self.winners
            ]
            if not arms:
                raise PlanError(f"no candidate could be trained; why is in {study.store.failures}")
        return self._confirm(arms, tried, options)

    def _rung(self, index: int, rung: Rung, arms: list[str]) -> Study:
        plan = replace(
            self.plan,
            arms=tuple(arms),
            controls=("stock",),
            seeds=1,
            first_seed=self.plan.first_seed + SEARCH_SEEDS + index,
            max_seeds=None,
            rule="looks",  # a rung is looked at once, and `anytime` is of plans that go on
            train={**self.plan.train, "epochs": rung.epochs},
        )
        return Study(plan, folder=self.folder / f"rung-{index + 1}")

    @property
    def fresh(self) -> bool:
        """Whether winners are confirmed on a split that chose nothing; else each half of the images has one task."""
        return self.split != self.plan.split

    def _ranking(self, study: Study) -> list[tuple[str, float]]:
        """Rank candidates, by the half of the images that chooses where there is no fresh split."""
        finished = [run for run in study.runs() if run.arm.name != "stock"]
        weights = None if self.fresh or not finished else self._choosing(study)
        scored = {
            run.arm.name: float(metric_values(study.store.matches(run), self.plan.metric, weights)[0])
            for run in finished
        }
        return sorted(scored.items(), key=lambda item: -np.nan_to_num(item[1], nan=-1.0))

    def _choosing(self, study: Study) -> Weights:
        images = sorted(study.store.truth()["images"], key=lambda image: int(image["id"]))
        return choosing([str(image["file_name"]) for image in images], self.plan.group)[None].astype(np.uint8)

    def _confirm(
        self, arms: list[str], tried: list[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> tuple[Study, dict[Any, str]]:
        study = Study(replace(self.plan, arms=tuple(arms), split=self.split), folder=self.folder / "winners")
        found = {"tried": len(self.plan.arms), "fresh_split": self.fresh, "halves": not self.fresh, "rungs": tried}
        write_text(study.store.folder / SEARCH, json.dumps(found))
        return study, study.run(**options)


def candidates(mechanisms: str, places: str) -> tuple[str, ...]:
    """Cross mechanisms with places.

    Example:
        >>> candidates("eca,se", "P4,P5")
        ('eca@P4', 'eca@P5', 'se@P4', 'se@P5')
    """
    return tuple(f"{name.strip()}@{place.strip()}" for name in mechanisms.split(",") for place in places.split(","))


def _held_out(plan: Plan) -> Split:
    from attngraft.yolo.splits import split_images

    return "test" if plan.split != "test" and split_images(plan.data, "test") else plan.split
