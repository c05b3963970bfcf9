"""`Study`: the object behind ``attngraft study``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from attngraft._core.errors import DataError, OutputError, PlanError
from attngraft._core.files import write_text
from attngraft._core.json_text import json_text
from attngraft._core.locks import alone
from attngraft._core.progress import SILENT, Progress
from attngraft.coco.metrics import require_classes
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.home import home, other_plans
from attngraft.study.layout import EXTENSIONS, RECORD_LINES, RESULTS, WRITTEN
from attngraft.study.plan import STOCK, Plan, load
from attngraft.study.relocating import relocate, require_files
from attngraft.study.running.costs import measure_costs
from attngraft.study.running.engines import Engine, Local, Ray
from attngraft.study.running.folds import require_units
from attngraft.study.running.program import require_word
from attngraft.study.running.records import Record, Run, Store
from attngraft.study.running.schedule import POLL_SECONDS, carry_out

if TYPE_CHECKING:
    from attngraft.study.judging.results import Results
    from attngraft.study.judging.verdict import Verdict
    from attngraft.study.reporting.report import Conclusion
    from attngraft.study.running.forecast import Forecast

EngineName = Literal["local", "ray"]


class Study:
    """Find out whether arms beat the baseline on given data.

    Args:
        plan: A `Plan`, a file with one, or None where the keys are given.
        folder: The study's folder; None takes ``runs/study/NAME``, after the plan's file or the data.
        **keys: Keys of the plan and training options, instead of ``plan`` or over those of its file.

    Raises:
        PlanError: If there is no plan that can be carried out, or the folder holds another study.

    Example:
        >>> study = Study(data="fruit.yaml", base="yolo11n", arms="mhsa@P5,ema@P4", epochs=50)  # doctest: +SKIP
        >>> study.run()  # doctest: +SKIP
        >>> study.verdicts()[0].outcome  # doctest: +SKIP
        'no difference'
    """

    def __init__(self, plan: Plan | str | Path | None = None, *, folder: str | Path | None = None, **keys: Any) -> None:
        if isinstance(plan, Plan) and keys:
            raise PlanError("give a Plan or keys, not both")
        name = Path(str(plan)).stem if isinstance(plan, (str, Path)) else None
        if not isinstance(plan, Plan):
            plan = Plan.of(_over(load(Path(plan)), keys) if plan else keys)
        self.plan = plan
        self.folder = Path(folder) if folder else home(name or Path(plan.data).stem)
        self.store = Store(self.folder.absolute())
        self._results: Results | None = None
        self._trusted = True  # the user gave the plan

    @classmethod
    def open(cls, folder: str | Path, *, trust: bool = False) -> Study:
        """Open a study that was begun.

        Args:
            folder: Its folder.
            trust: Whether the program that its plan may name is started though the study was not begun here.

        Raises:
            PlanError: If the folder holds none.
        """
        opened = cls(FrozenPlan.read(Path(folder)).plan, folder=folder)
        opened._trusted = trust
        return opened

    @property
    def begun(self) -> bool:
        """Whether the plan is fixed."""
        return (self.store.folder / FrozenPlan.FILE).is_file()

    def _only_process(self) -> AbstractContextManager[None]:
        """Keep a second process from carrying out the same study; one that is refused leaves nothing behind."""
        busy = PlanError(f"another process is carrying out {self.folder}; wait for it, or end it first")
        return alone(self.store.folder, busy, used=lambda: self.begun, named=self.folder)

    def frozen_plan(self) -> FrozenPlan:
        """Return the plan with its arms resolved: as it stands in the folder, or as it would be fixed; writes nothing.

        Raises:
            PlanError: If the folder holds a study with another plan that has begun to train.
        """
        if not self.begun:
            return self._resolved()
        frozen = FrozenPlan.read(self.store.folder)
        if frozen.plan == self.plan:
            return frozen
        if self.store.untouched():  # a plan that was corrected before anything was trained by it
            return self._resolved()
        raise PlanError(
            f"{self.folder} holds a study with another plan ({changes(frozen.plan, self.plan)}); a changed plan is a "
            "new study: name another folder, or resume that one: attngraft study resume; if its files were moved: "
            "attngraft study relocate"
        )

    def _check_data(self) -> None:
        if self.begun:
            require_files(self.plan, self.folder)
        if self.plan.command is not None:
            if not self.plan.own_metric and not Path(self.plan.data).is_file():
                raise DataError(f"the ground truth {self.plan.data} is not there; name a JSON file in COCO's format")
            if not self.plan.own_metric:
                require_units(self.plan)
            return
        from attngraft.yolo.options import check_data

        names = check_data(self.plan.data, *(("train", "val") if self.plan.folds else ("train", self.plan.split)))
        if names:
            require_classes(self.plan.metric, names)
            require_units(self.plan)

    def _resolved(self) -> FrozenPlan:
        from attngraft.study.running.controls import resolve_arms

        return resolve_arms(self.plan)

    def forecast(self, parallel: int | None = None, *, progress: Progress = SILENT) -> Forecast:
        """Say what the study will take, from a short timing; writes nothing into its folder.

        Args:
            parallel: How many runs at once; None fits the machine.
            progress: Told what is being done.

        Raises:
            PlanError: If a training step does not fit into this machine's memory.
            DataError: If the data are not there.
        """
        from attngraft.study.running.forecast import forecast

        self._check_data()
        progress.started("resolving the arms")
        return forecast(self.frozen_plan(), self.store.folder, parallel, progress)

    def run(
        self,
        *,
        parallel: int | None = None,
        engine: EngineName = "local",
        address: str | None = None,
        gpus: float | None = None,
        anyway: bool = False,
        console: Console | None = None,
    ) -> dict[Run, str]:
        """Carry out what is missing; safe to call again after whatever stopped it.

        Args:
            parallel: How many runs at once; None fits the machine.
            engine: ``local`` or ``ray``.
            address: The Ray cluster; None starts one here.
            gpus: GPUs a run takes on Ray, such as 0.5.
            anyway: Whether to go on where the baseline's first run has learned nothing.
            console: Where to say how far it is.

        Returns:
            The runs that failed, and why; empty when the study is complete.

        Raises:
            PlanError: If another process is carrying it out, the baseline's first run has learned nothing, or the
                folder is not of here and its plan starts a program that nobody trusted.
            DataError: If the data are not there.
            OutputError: If the folder cannot be written.
        """
        say = partial(console.print, markup=False, highlight=False) if console else print
        if require_word(self.plan, self.folder, given=self._trusted):
            say(f"every run starts: {self.plan.command}")
        with self._only_process():
            self._check_data()
            frozen = self.frozen_plan()
            carrier = self._engine(frozen, parallel, engine, address, gpus)  # before the plan is fixed: it may refuse
            self._freeze(frozen)
            self.store.set_aside_damaged(say)
            more = partial(self._more, frozen)
            failed = carry_out(self.store, frozen, carrier, console=console, more=more, anyway=anyway)
            if self.comparable():
                if self.plan.command is None:
                    measure_costs(self.store)
                self.results.save(self.store.folder)
            return failed

    def prepare(self) -> int:
        """Fix the plan without running anything, for `work` on other machines, and return the most runs there are.

        Raises:
            PlanError: If it cannot be carried out.
        """
        require_word(self.plan, self.folder, given=self._trusted)
        with self._only_process():
            self._check_data()
            self._freeze(self.frozen_plan())
        return len(self._all_runs())

    def work(self, number: int) -> tuple[Run, str]:
        """Carry out one run of a study whose plan is fixed.

        Args:
            number: Which run, counted from 0: seed by seed, all arms of the first seed first.

        Returns:
            The run, and why it failed or an empty text.

        Raises:
            PlanError: If the plan is not fixed or has no such run, or starts a program that nobody trusted.
        """
        if not self.begun:
            raise PlanError(f"{self.folder} holds no plan; fix it first: attngraft study prepare")
        require_word(self.plan, self.folder, given=self._trusted)
        runs = self._all_runs()
        if not 0 <= number < len(runs):
            raise PlanError(f"{self.folder} has the runs 0 to {len(runs) - 1}, got {number}")
        run, engine = runs[number], Local(self.store, 1, pin=False)
        if self.store.has(run):
            return run, ""
        engine.start(run)
        try:
            while not (ended := list(engine.ended())):
                time.sleep(POLL_SECONDS)
        finally:
            engine.stop()
        why = "" if self.store.has(run) else ended[0][1] or "it ended without a record"
        if why:
            self.store.fail(run, why)
        return run, why

    def _all_runs(self) -> list[Run]:
        """List every run that the fixed plan may ask for."""
        from attngraft.study.judging.gather import all_runs

        return all_runs(self.store, self.frozen_plan())

    def _freeze(self, frozen: FrozenPlan) -> None:
        """Write the plan, unless it is written.

        Raises:
            OutputError: If the folder holds something else that a study would write over.
        """
        strange = [] if self.begun else [name for name in WRITTEN if (self.store.folder / name).exists()]
        if strange:
            raise OutputError(
                f"{self.folder} holds {strange[0]}, which no study wrote, and this one would; name another folder"
            )
        if not self.begun or FrozenPlan.read(self.store.folder) != frozen:
            frozen.write(self.store.folder)

    def runs(self) -> list[Run]:
        """List the runs that are finished, seed by seed; none of a study that has not begun."""
        if not self.begun:
            return []
        return list(self.store.finished(self._all_runs()))

    def extend(self, max_seeds: int) -> tuple[int, ...]:
        """Let a study go on to more seeds than its plan has; every record is used, and nothing is run yet.

        Verdicts then combine the p-values of the plan and of its extensions, and hold at the plan's alpha.

        Args:
            max_seeds: Most seeds of each arm, all before included.

        Returns:
            The most seeds of the plan and after each extension.

        Raises:
            PlanError: If there is no study yet, or not 2 seeds more than before.
        """
        from attngraft.study.judging.evidence import criterion
        from attngraft.study.judging.gather import extensions

        if not self.begun:
            raise PlanError(f"{self.folder} holds no study to extend; start one first")
        before = extensions(self.store)
        last = (before or (criterion(self.frozen_plan().plan).last,))[-1] or 0
        if isinstance(max_seeds, bool) or not isinstance(max_seeds, int) or max_seeds < last + 2:
            raise PlanError(f"an extension has 2 seeds or more above the {last} there are, got max_seeds={max_seeds!r}")
        with self._only_process():
            write_text(self.store.folder / EXTENSIONS, json.dumps([*before, max_seeds]))
        return (last, max_seeds) if not before else (*before, max_seeds)

    def relocate(self, *, data: str | Path | None = None, base: str | Path | None = None) -> None:
        """Say where the data, or the file that arms are grafted onto, lie now: they or the study were moved.

        The plan stays as it was fixed, with its hash; the places are kept beside it, in ``moved.json``.

        Args:
            data: The data file; None leaves it where it was.
            base: The base's file; None leaves it where it was.

        Raises:
            PlanError: If there is no study yet, or nothing is given.
            DataError: If a file is not there, or the images are not those that runs were evaluated on.
        """
        if not self.begun:
            raise PlanError(f"{self.folder} holds no study to relocate; start one first")
        with self._only_process():
            self.plan = relocate(self.store, FrozenPlan.read(self.store.folder), data, base).plan

    def decidable(self) -> str:
        """Say what can be decided on these images at all, from the first finished pair; empty before there is one."""
        from attngraft.study.judging.gather import gather

        if not self.comparable() or self.plan.folds is not None:
            return ""
        return gather(self.store, self.frozen_plan()).decidable()

    def comparable(self) -> bool:
        """Tell whether an arm and the baseline have a finished pair."""
        from attngraft.study.judging.gather import unpaired

        records = {(run.arm.name, run.seed): self.store.record(run) for run in self.runs()}
        left_out = unpaired(records)
        return any(
            name != STOCK and (STOCK, seed) in records and seed not in left_out.get(name, ()) for name, seed in records
        )

    @property
    def results(self) -> Results:
        """What the study came to so far, from its records alone: nothing is written, built, timed or trained.

        It is read from ``results.json`` where that is of these records, and computed otherwise.

        Raises:
            PlanError: If the study has not begun, or a record was made under another plan.
        """
        from attngraft.study.judging.collect import collect, fingerprint
        from attngraft.study.judging.results import Results

        if not self.begun:
            raise PlanError(f"{self.folder} holds no results: the study has not begun; run it first")
        frozen, others = self.frozen_plan(), other_plans(self.store.folder, self.plan)
        wanted = fingerprint(self.store, frozen, others)
        if self._results is None or self._results.fingerprint != wanted:
            self._results = Results.kept(self.store.folder / RESULTS, wanted)
        if self._results is None:
            self._results = collect(self.store, frozen, self.records(), others)
        return self._results

    def verdicts(self) -> list[Verdict]:
        """Return the verdict of each arm that was asked for, against the baseline; none before a pair is finished."""
        return [arm.verdict for arm in self.results.arms if arm.verdict] if self.begun else []

    def records(self) -> list[Record]:
        """Return the records of the finished runs.

        Raises:
            PlanError: If one was made under another plan.
        """
        frozen = self.frozen_plan()
        records = [self.store.record(run) for run in self.runs()]
        for record in records:
            if record.plan != frozen.hash:
                raise PlanError(
                    f"the record of {record.arm}, seed {record.seed} belongs to plan {record.plan}, not {frozen.hash}"
                )
        return records

    def report(self) -> Path:
        """Write the report of what is finished, and return the path of ``report.html``."""
        return self.conclude().report

    def conclude(self) -> Conclusion:
        """Write the report of what is finished, and return its path with a sentence for each arm.

        ``results.json`` and ``records.jsonl`` are written beside it; the latter names the runs that failed, too.

        Raises:
            PlanError: If nothing can be compared yet.
        """
        from attngraft.study.reporting.report import write_report

        results, folder = self.results, self.store.folder
        concluded = write_report(results, folder)
        results.save(folder)
        lines = [*(one.to_json() for one in self.records()), *map(json_text, self.store.failed())]
        write_text(folder / RECORD_LINES, "".join(f"{line}\n" for line in lines))
        return concluded

    def _more(self, frozen: FrozenPlan) -> list[Run]:
        """Return the runs of the next seed, for the arms that a sequential plan has not decided."""
        if self.comparable():
            with suppress(OutputError):  # for those who follow the study while it goes on
                self.results.save(self.store.folder)
        from attngraft.study.judging.gather import undecided

        return undecided(self.store, frozen)

    def _engine(
        self, frozen: FrozenPlan, parallel: int | None, engine: EngineName, address: str | None, gpus: float | None
    ) -> Engine:
        if engine == "local":
            return Local(self.store, parallel, pin=frozen.plan.train.get("device") is None)
        if engine == "ray":
            return Ray(self.store, address, gpus=gpus)
        raise PlanError(f"engine is local or ray, got {engine!r}")


def changes(before: Plan, now: Plan) -> str:
    """Say the first keys in which two plans differ."""
    old, new = asdict(before), asdict(now)
    old |= old.pop("train")
    new |= new.pop("train")
    found = [f"{key} was {old.get(key)!r}, now {value!r}" for key, value in new.items() if value != old.get(key)]
    return "; ".join(found[:3])


def _over(values: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Put keys over those of a plan's file, wherever a training option stands in either."""
    given = [one.get("train") or {} for one in (values, keys)]
    if wrong := [one for one in given if not isinstance(one, Mapping)]:
        return {**values, **keys, "train": wrong[0]}  # `Plan.of` says what is wrong with it
    train = {**given[0], **given[1]}
    flat = {key: value for key, value in keys.items() if key != "train"}
    train |= {key: flat.pop(key) for key in list(flat) if key in train}
    kept = {key: value for key, value in values.items() if key not in train}
    return {**kept, **flat, **({"train": train} if train else {})}
