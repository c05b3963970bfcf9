"""What a plan promises to judge by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attngraft._core.errors import OptionError
from attngraft.study.judging.design import Design

RuleName = Literal["looks", "anytime"]


@dataclass(frozen=True)
class Criterion:
    """What a plan promises to judge by.

    Args:
        sesoi: Smallest effect worth having, in AP points (0 to 100).
        metric: What is judged; of match tables `attngraft.coco.metrics.parse_metric` reads it.
        alpha: Chance of any false `better` or `worse` among the arms; and, arm by arm, of a false `no difference`.
        max_seeds: Seeds after which an arm stops undecided; looks are taken after every seed. None makes one look, or
            with the rule ``anytime`` sets no end.
        first_look: Seeds before the first look.
        seeds: Pairs that a plan with one look has promised; None judges whatever there is.
        extensions: Seeds at the end of each extension of the plan, rising.
        rule: ``looks``, which spends alpha over the planned looks, or ``anytime``, which needs no plan of them.
        folds: Validation folds, if every seed has one of its own.
        arms: Arms of the plan, if some have no runs; Holm counts them.
        selected: Whether the arms were chosen on the images that they are judged on: then there is no verdict.
        power: Chance of a verdict that suggested seeds aim at.
        resamples: Bootstrap resamples of the images.
        seed: Of the bootstrap.

    Raises:
        OptionError: If a number cannot be.
    """

    sesoi: float
    metric: str = "AP"
    alpha: float = 0.05
    max_seeds: int | None = None
    first_look: int = 3
    seeds: int | None = None
    extensions: tuple[int, ...] = ()
    rule: RuleName = "looks"
    folds: int | None = None
    arms: int | None = None
    selected: bool = False
    power: float = 0.8
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field."""
        if not self.sesoi > 0:
            raise OptionError(f"a criterion needs sesoi above 0 AP points, got {self.sesoi}; name a worthwhile effect")
        for name in ("alpha", "power"):
            if not 0 < getattr(self, name) < 1:
                raise OptionError(f"a criterion needs {name} between 0 and 1, got {getattr(self, name)}")
        if self.resamples < 2:
            raise OptionError(f"a criterion needs 2 resamples or more, got {self.resamples}")
        if self.folds is not None and self.folds < 2:
            raise OptionError(f"a criterion needs 2 folds or more, got {self.folds}")
        self.design(max(self.first_look, 2))

    @property
    def overlap(self) -> float:
        """Images in a validation fold over those trained on; 0 where all seeds share their images."""
        return 0.0 if self.folds is None else 1 / (self.folds - 1)

    @property
    def last(self) -> int | None:
        """Pairs that an arm has at most; None where nothing was planned."""
        ends = [self.seeds if self.max_seeds is None else self.max_seeds, *self.extensions]
        return ends[-1]

    @property
    def looks_often(self) -> bool:
        """Whether an arm is looked at before its last pair."""
        return self.rule == "anytime" or self.max_seeds is not None

    def design(self, pairs: int) -> Design:
        """Return when the study is looked at; ``pairs`` there are at most."""
        if self.rule == "anytime":
            return Design(self.first_look, None)
        if self.max_seeds is not None:
            return Design(self.first_look, (self.max_seeds, *self.extensions))
        seeds = max(self.seeds or pairs, 2)
        return Design(seeds, (seeds, *self.extensions))
