"""`Study`: the object behind ``attngraft study``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout
from rich.console import Console

from attngraft._core.errors import OutputError, PlanError
from attngraft.study.plan import Fixed, Plan, load
from attngraft.study.running.costs import measure_costs
from attngraft.study.running.engines import Engine, Local, Ray
from attngraft.study.running.records import Record, Run, Store, at_seed
from attngraft.study.running.schedule import carry_out

if TYPE_CHECKING:
    from attngraft.study.reporting.report import Conclusion
    from attngraft.study.running.forecast import Forecast

EngineName = Literal["local", "ray"]
HOME = Path("studies")


class Study:
    """Find out whether arms beat the stock model on given data.

    Args:
        plan: A `Plan`, a file with one, or None where the keys are given.
        folder: The study's folder; None takes ``studies/NAME``, after the plan's file or the data.
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
        self.folder = Path(folder) if folder else HOME / (name or Path(plan.data).stem)
        self.store = Store(self.folder.absolute())

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """Open a study that was begun.

        Raises:
            PlanError: If the folder holds none.
        """
        return cls(Fixed.read(Path(folder)).plan, folder=folder)

    @property
    def begun(self) -> bool:
        """Whether the plan is fixed."""
        return (self.store.folder / Fixed.FILE).is_file()

    def fixed(self) -> Fixed:
        """Return the plan with its arms settled, and fix it in the study's folder if that was not done yet.

        Raises:
            PlanError: If the folder holds a study with another plan.
        """
        if not self.begun:
            from attngraft.study.running.controls import settle

            settled = settle(self.plan)
            settled.write(self.store.folder)
            return settled
        fixed = Fixed.read(self.store.folder)
        if fixed.plan != self.plan:
            ours, theirs = asdict(self.plan), asdict(fixed.plan)
            ours |= ours.pop("train")
            theirs |= theirs.pop("train")
            changed = [
                f"{key} was {theirs.get(key)!r}, now {value!r}"
                for key, value in ours.items()
                if value != theirs.get(key)
            ]
            raise PlanError(
                f"{self.folder} holds a study with another plan ({'; '.join(changed[:3])}); a changed plan is a new "
                "study: name another folder, or go on with that one: attngraft study resume"
            )
        return fixed

    def forecast(self, workers: int | None = None, *, started: Callable[[str], None] = lambda what: None) -> Forecast:
        """Say what the study will take, from a short timing; writes nothing into its folder.

        Args:
            workers: How many runs at once; None fits the machine.
            started: Called with what is being done, for progress.

        Raises:
            PlanError: If a training step does not fit into this machine's memory.
        """
        from attngraft.study.running.controls import settle
        from attngraft.study.running.forecast import forecast

        started("settling the arms")
        fixed = self.fixed() if self.begun else settle(self.plan)
        return forecast(fixed, self.store.folder, workers, started)

    def run(
        self,
        *,
        workers: int | None = None,
        engine: EngineName = "local",
        address: str | None = None,
        gpus: float | None = None,
        console: Console | None = None,
    ) -> dict[Run, str]:
        """Carry out what is missing; safe to call again after whatever stopped it.

        Args:
            workers: How many runs at once; None fits the machine.
            engine: ``local`` or ``ray``.
            address: The Ray cluster; None starts one here.
            gpus: GPUs a run takes on Ray, such as 0.5.
            console: Where to say how far it is.

        Returns:
            The runs that failed, and why; empty when the study is complete.

        Raises:
            PlanError: If another process is carrying it out.
            OutputError: If the folder cannot be written.
        """
        with self._alone():
            fixed = self.fixed()
            carrier = self._engine(fixed, workers, engine, address, gpus)
            failed = carry_out(self.store, fixed, carrier, console=console, more=lambda: self._more(fixed))
            if not failed:
                measure_costs(self.store)
            return failed

    def runs(self) -> list[Run]:
        """List the runs that are finished, seed by seed."""
        fixed = self.fixed()
        last = fixed.plan.first_seed + (fixed.plan.max_seeds or fixed.plan.seeds)
        wanted = [run for seed in range(fixed.plan.first_seed, last) for run in at_seed(fixed.arms, seed)]
        return list(self.store.finished(wanted))

    def comparable(self) -> bool:
        """Tell whether an arm and the stock model have a finished seed in common."""
        done = [(run.arm.name, run.seed) for run in self.runs()]
        return any(name != "stock" and ("stock", seed) in done for name, seed in done)

    def verdicts(self) -> list[Any]:
        """Return the verdict of each arm that was asked for, against the stock model."""
        from attngraft.study.judging.evidence import Evidence

        return list(Evidence.of(self.store, self.fixed()).against_stock().values())

    def records(self) -> list[Record]:
        """Return the records of the finished runs.

        Raises:
            PlanError: If one was made under another plan.
        """
        fixed = self.fixed()
        records = [self.store.record(run) for run in self.runs()]
        for record in records:
            if record.plan != fixed.hash:
                raise PlanError(
                    f"the record of {record.arm}, seed {record.seed} belongs to plan {record.plan}, not {fixed.hash}"
                )
        return records

    def report(self) -> Path:
        """Write the report of what is finished, and return the path of ``report.html``."""
        return self.conclude().report

    def conclude(self) -> Conclusion:
        """Write the report of what is finished, and return its path with a sentence for each arm.

        Raises:
            PlanError: If nothing can be compared yet.
        """
        from attngraft.study.reporting.report import write_report

        return write_report(self.store, self.fixed(), self.records())

    def _more(self, fixed: Fixed) -> list[Run]:
        """Return the runs of the next seed, for the arms that a sequential plan has not decided."""
        if fixed.plan.max_seeds is None:
            return []
        from attngraft.study.judging.evidence import undecided

        return undecided(self.store, fixed)

    def _engine(
        self, fixed: Fixed, workers: int | None, engine: EngineName, address: str | None, gpus: float | None
    ) -> Engine:
        if engine == "local":
            return Local(self.store, workers, pin=fixed.plan.train.get("device") is None)
        if engine == "ray":
            return Ray(self.store, address, gpus=gpus)
        raise PlanError(f"engine is local or ray, got {engine!r}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep a second process from carrying out the same study."""
        try:
            self.store.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.store.folder / ".lock", timeout=0)
            lock.acquire()
        except Timeout as error:
            raise PlanError(f"another process is carrying out {self.folder}; wait for it, or end it first") from error
        except OSError as error:
            raise OutputError(f"cannot write {self.folder}: {error.strerror}; choose another folder") from error
        try:
            yield
        finally:
            lock.release()


def _over(values: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Put keys over those of a plan's file, wherever a training option stands in either."""
    train = {**(values.get("train") or {}), **(keys.get("train") or {})}
    flat = {key: value for key, value in keys.items() if key != "train"}
    train |= {key: flat.pop(key) for key in list(flat) if key in train}
    kept = {key: value for key, value in values.items() if key not in train}
    return {**kept, **flat, **({"train": train} if train else {})}
