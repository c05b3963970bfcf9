"""`Results`: what a study came to, computed once from its records and kept as ``results.json``.

Reports, tables, figures, ``attngraft study status`` and Python read it alike; none of them computes anything more.
`schema` is its JSON schema: ``attngraft study schema results``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter

from attngraft._core.errors import DataError
from attngraft._core.files import write_text
from attngraft._core.json_text import parse_json
from attngraft._core.schemas import json_schema
from attngraft.study.judging.breakdown import Breakdown
from attngraft.study.judging.reproducibility import Reproducibility
from attngraft.study.judging.samples import Sample
from attngraft.study.judging.statistics import Estimate
from attngraft.study.judging.verdict import Verdict
from attngraft.study.layout import RESULTS
from attngraft.study.plan import Kind, RuleName

SCHEMA = "attngraft.results/1"

State = Literal["finished", "failed", "missing"]


@dataclass(frozen=True)
class Setting:
    """What was compared, on what, and by what rule.

    Attributes:
        base: The baseline model, without the folder it was in.
        data: The data, by the last folder and the file.
        metric: What verdicts are about.
        task: What the evaluation compared: ``bbox`` or ``segm``; empty where only numbers were given.
        sesoi: Smallest effect size of interest, in AP points.
        alpha: Family-wise error of the verdicts.
        seeds: Planned seeds of each arm; those of the first look where ``max_seeds`` is given.
        max_seeds: Most seeds of each arm; None where all are judged once.
        extensions: Most seeds after each extension of the plan.
        rule: How looks are allowed for.
        group: What images were drawn by in the bootstrap, where not one by one.
        split: What was detected on; empty where numbers, or a ground truth, were given.
        folds: Validation folds, where every seed has one of its own.
        max_latency: Most latency that an arm may have, as a multiple of the baseline's; None where it does not matter.
        hash: Of the plan; empty where there was none.
        train: The training options.
        batch: Images in a training batch; None where unknown.
    """

    base: str
    data: str
    metric: str
    task: str
    sesoi: float
    alpha: float
    seeds: int
    max_seeds: int | None
    split: str
    extensions: tuple[int, ...] = ()
    rule: RuleName = "looks"
    group: str | None = None
    folds: int | None = None
    max_latency: float | None = None
    hash: str = ""
    train: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None


@dataclass(frozen=True)
class Cost:
    """What an arm costs; None where it was not measured.

    Attributes:
        parameters: While training.
        flops: Of one image.
        latency: As a multiple of the baseline's, and the ends of the 95 % interval of that.
    """

    parameters: int | None = None
    flops: float | None = None
    latency: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class ArmResult:
    """One line of the table of verdicts.

    Attributes:
        name: The arm or control.
        model: Its recipe.
        kind: Whether it was asked for or is a control.
        level: Its mean of the metric over seeds, in points.
        estimate: Its difference to the baseline.
        interval: The interval of that; infinite where none can be given.
        confidence: The level of that interval.
        differences: Its difference to the baseline at each seed.
        verdict: Its verdict against the baseline; None for a control.
        over_conv: Its verdict against the convolution of equal cost, where there is one.
        learned: Runs of it that learned, where not all runs of the study did; else None.
        better_share: Chance that a run of it scores more than a run of the baseline, over all pairs of runs, of
            one fold where seeds have folds.
        cost: What it costs.
        pareto: Whether no other arm beats it on gain and latency at once.
        note: How closely a control matches the cost of its arm.
        level_sd: Standard deviation of the metric over those seeds, in points; None of a single one.
    """

    name: str
    model: str
    kind: Kind
    level: float
    estimate: Estimate
    interval: tuple[float, float]
    confidence: float
    differences: dict[int, float]
    verdict: Verdict | None = None
    over_conv: Verdict | None = None
    learned: int | None = None
    better_share: float = 0.5
    cost: Cost = field(default_factory=Cost)
    pareto: bool = False
    note: str = ""
    level_sd: float | None = None

    @property
    def interim(self) -> bool:
        """Whether it is of a plan that is judged once and still lacks some of its pairs."""
        return self.verdict is not None and self.verdict.outcome == "interim"

    @property
    def control(self) -> bool:
        """Whether it is a control."""
        return self.kind == "control"


@dataclass(frozen=True)
class Baseline:
    """The model that arms are compared with.

    Attributes:
        seeds: How many runs it has.
        level: Its mean of the metric over seeds, in points.
        cost: What it costs.
        learned: Runs of it that learned, where not all runs of the study did; else None.
        level_sd: Standard deviation of the metric over seeds, in points; None of a single one.
    """

    seeds: int
    level: float
    cost: Cost = field(default_factory=Cost)
    learned: int | None = None
    level_sd: float | None = None


@dataclass(frozen=True)
class RunResult:
    """One run of a study.

    Attributes:
        arm: The arm.
        seed: The seed.
        state: Whether it is finished, failed when last tried, or is still missing.
        value: The metric, in points; None where it is not finished.
        numbers: COCO's twelve numbers, as fractions.
        seconds: Duration of training and evaluation; None where unknown.
        error: Why it failed.
    """

    arm: str
    seed: int
    state: State
    value: float | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    error: str = ""

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed}"


@dataclass(frozen=True)
class Results:
    """What a study came to.

    Attributes:
        fingerprint: Of the records that it was computed from.
        setting: What was compared, on what, and by what rule.
        complete: Whether every run that the plan asks for is finished and every arm judged.
        arms: Arms and controls that can be compared with the baseline, by falling difference, controls last.
        baseline: What they are compared with.
        runs: Every run, seed by seed.
        breakdown: Where the differences lie.
        errors: AP50 points that each type of error costs, by arm, mean over seeds.
        curves: AP points after each epoch, by arm, one row a seed.
        reproducibility: What the comparison rests on.
        samples: The images on which arms disagree most.
        checkpoints: Weights of the runs whose detections the samples show, by arm, within the study's folder.
        classes: Names of the classes.
        costs_on: The device and threads that costs were measured with; empty where they were not.
        costs_note: Why costs are missing.
        search: How the arms were found, where a search found them.
        others: Other plans on the same data in the same home.
        warnings: What the images cannot show.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="strings", extra="forbid")

    fingerprint: str
    setting: Setting
    complete: bool
    arms: tuple[ArmResult, ...]
    baseline: Baseline | None
    runs: tuple[RunResult, ...]
    breakdown: Breakdown = field(default_factory=Breakdown)
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    reproducibility: Reproducibility = field(default_factory=Reproducibility)
    samples: tuple[Sample, ...] = ()
    checkpoints: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    costs_on: dict[str, Any] = field(default_factory=dict)
    costs_note: str = ""
    search: dict[str, Any] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def asked(self) -> list[ArmResult]:
        """The arms that were asked for, without the controls."""
        return [arm for arm in self.arms if not arm.control]

    @property
    def has_costs(self) -> bool:
        """Whether anything is known of what arms cost."""
        costs = [arm.cost for arm in self.arms] + ([self.baseline.cost] if self.baseline else [])
        return any(cost != Cost() for cost in costs)

    @property
    def has_latency(self) -> bool:
        """Whether latency was measured."""
        return any(arm.cost.latency for arm in self.arms)

    @property
    def has_conv(self) -> bool:
        """Whether an arm was compared with a convolution of equal cost."""
        return any(arm.over_conv for arm in self.arms)

    @property
    def some_failed(self) -> bool:
        """Whether some runs of the study did not learn."""
        return any(arm.learned is not None for arm in self.arms)

    @property
    def finished(self) -> list[RunResult]:
        """The runs that are finished."""
        return [run for run in self.runs if run.state == "finished"]

    @property
    def hours(self) -> float:
        """Hours that the finished runs took, one after another."""
        return sum(run.seconds or 0 for run in self.finished) / 3600

    def fast_enough(self, arm: ArmResult) -> bool | None:
        """Tell whether an arm's latency is shown to stay within the limit; None without a limit or a measurement."""
        limit = self.setting.max_latency
        return None if limit is None or arm.cost.latency is None else arm.cost.latency[2] <= limit

    def arm(self, name: str) -> ArmResult:
        """Return an arm by name.

        Raises:
            KeyError: If it is not compared.
        """
        return {arm.name: arm for arm in self.arms}[name]

    def table(self) -> list[dict[str, Any]]:
        """Return a flat row for each arm, for ``pandas.DataFrame`` and the like."""
        return [{**_flat(arm), "fast_enough": self.fast_enough(arm)} for arm in self.arms]

    def run_table(self) -> list[dict[str, Any]]:
        """Return a flat row for each run, with COCO's numbers as columns."""
        return [
            {key: value for key, value in asdict(run).items() if key != "numbers"} | run.numbers for run in self.runs
        ]

    def save(self, folder: Path) -> Path:
        """Write ``results.json`` into a folder and return its path."""
        write_text(folder / RESULTS, json.dumps(self.to_dict(), indent=1))
        return folder / RESULTS

    def to_dict(self) -> dict[str, Any]:
        """Return the form that `schema` describes, of plain values only."""
        return {"schema": SCHEMA, **json.loads(adapter().dump_json(self))}

    @classmethod
    def are_in(cls, folder: Path) -> bool:
        """Tell whether a folder holds what `save` wrote."""
        try:
            cls.load(folder / RESULTS)
        except (DataError, OSError):
            return False
        return True

    @classmethod
    def load(cls, file: Path) -> Results:
        """Read a file that `save` wrote.

        Raises:
            DataError: If it is none, or of another format.
        """
        try:
            values = parse_json(file.read_text(encoding="utf-8"))
            found = values.pop("schema", None)
            results = adapter().validate_python(values) if found == SCHEMA else None
        except (ValueError, AttributeError, TypeError) as error:
            raise DataError(f"{file} holds no results of a study; write it again: attngraft study report") from error
        if results is None:
            raise DataError(f"{file} is of the form {found!r}, and this release reads {SCHEMA!r}")
        return results

    @classmethod
    def kept(cls, file: Path, fingerprint: str) -> Results | None:
        """Return what a file holds if that is of records with this fingerprint; None otherwise, or without a file."""
        with suppress(OSError, DataError):
            results = cls.load(file)
            return results if results.fingerprint == fingerprint else None
        return None


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of `Results.to_dict`, where numbers may be infinite or missing."""
    described: dict[str, Any] = _unbounded(json_schema(Results, SCHEMA))
    return described


def _unbounded(described: Any) -> Any:
    if isinstance(described, list):
        return [_unbounded(one) for one in described]
    if not isinstance(described, dict):
        return described
    if described.get("type") == "number":
        about = {key: value for key, value in described.items() if key != "type"}
        return {**about, "anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
    return {key: _unbounded(value) for key, value in described.items()}


@lru_cache(maxsize=1)
def adapter() -> TypeAdapter[Results]:
    """Return what reads and writes results; made once, for it takes a while."""
    return TypeAdapter(Results)


def _flat(arm: ArmResult) -> dict[str, Any]:
    verdict, latency = arm.verdict, arm.cost.latency
    return {
        "arm": arm.name,
        "kind": arm.kind,
        "outcome": verdict.outcome if verdict else None,
        "difference": arm.estimate.difference,
        "low": arm.interval[0],
        "high": arm.interval[1],
        "confidence": arm.confidence,
        "unbiased": verdict.unbiased if verdict else None,
        "p_difference": verdict.p_difference if verdict else None,
        "p_equivalence": verdict.p_equivalence if verdict else None,
        "seeds": arm.estimate.seeds,
        "seed_sd": arm.estimate.seed_sd,
        "image_sd": arm.estimate.image_sd,
        "over_conv": arm.over_conv.outcome if arm.over_conv else None,
        "learned": arm.learned,
        "better_share": arm.better_share,
        "level": arm.level,
        "level_sd": arm.level_sd,
        "parameters": arm.cost.parameters,
        "flops": arm.cost.flops,
        "latency_ratio": latency[0] if latency else None,
        "pareto": arm.pareto,
    }
