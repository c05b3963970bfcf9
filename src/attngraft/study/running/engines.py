"""Where runs are carried out: processes on this machine, or the same processes' work on a Ray cluster."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from attngraft._core.errors import DataError, OutputError
from attngraft.study.frozen_plan import FrozenPlan
from attngraft.study.running.records import ELSEWHERE, Run, Store
from attngraft.study.running.run import BUSY, FAILED, command, end_children, environment, tracked

GIBIBYTE = 1 << 30
PROCESS_BYTES = 2 * GIBIBYTE
"""What a training of a small model takes on the CPU, PyTorch's own libraries included."""


class Engine(Protocol):
    """Carries out runs, some of them at once.

    Attributes:
        workers: How many at once.
    """

    workers: int

    def free(self) -> bool:
        """Tell whether a run can be started now."""

    def start(self, run: Run) -> None:
        """Start a run."""

    def running(self) -> list[Run]:
        """List the runs that were started and have not ended."""

    def ended(self) -> Iterator[tuple[Run, str]]:
        """Yield each run that has ended since the last call, with why it failed or an empty text."""

    def stop(self) -> None:
        """End every run that is going on."""


@dataclass
class _Process:
    popen: subprocess.Popen[bytes]
    slot: int
    log: IO[bytes]


class Local:
    """One process a run, ``workers`` at once.

    Args:
        store: The study's folder.
        workers: How many at once; None fits the machine.
        pin: Whether to give each of several GPUs its own runs; not where the plan names a device.
    """

    def __init__(self, store: Store, workers: int | None = None, *, pin: bool = True) -> None:
        self.store = store
        self.gpus = _gpus() if pin else []
        self.workers = workers or len(self.gpus) or fitting_workers()
        self.processes: dict[Run, _Process] = {}

    def free(self) -> bool:
        """Tell whether a run can be started now."""
        return len(self.processes) < self.workers

    def start(self, run: Run) -> None:
        """Start a run."""
        training = self.store.training(run)
        training.parent.mkdir(parents=True, exist_ok=True)
        slot = min(set(range(self.workers)) - {process.slot for process in self.processes.values()})
        own = {**environment(training), **tracked(self.store, run)}
        if len(self.gpus) > 1:
            own["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        log = self.store.log(run).open("ab")
        popen = subprocess.Popen(
            command(self.store.folder, run), env=own, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self.processes[run] = _Process(popen, slot, log)

    def running(self) -> list[Run]:
        """List the runs that were started and have not ended."""
        return list(self.processes)

    def ended(self) -> Iterator[tuple[Run, str]]:
        """Yield each run that has ended since the last call, with why it failed or an empty text."""
        for run, process in list(self.processes.items()):
            code = process.popen.poll()
            if code is not None:
                process.log.close()
                del self.processes[run]
                yield run, self._why(run, code)

    def stop(self) -> None:
        """End every run that is going on."""
        for process in self.processes.values():
            end_children(process.popen.pid)
            process.popen.kill()
        for process in self.processes.values():
            process.popen.wait()
            process.log.close()
        self.processes.clear()

    def _why(self, run: Run, code: int) -> str:
        if code == 0:
            return ""
        if code == BUSY:
            return ELSEWHERE
        said = self.store.failure(run) if code == FAILED else ""
        if said:
            return said
        how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with code {code}"
        return f"its process {how}; what it printed is in {self.store.log(run)}"


class Ray:
    """The same runs as tasks of a Ray cluster; where its machines share the study's folder they work in it.

    A machine that does not see the folder works in a folder of its own and sends the finished files back; a run that is
    killed there starts from scratch.

    Args:
        store: The study's folder.
        address: The cluster; None starts one on this machine, or joins the one that ``RAY_ADDRESS`` names.
        cpus: Processors a run takes.
        gpus: GPUs a run takes; fractions let runs share one.

    Raises:
        MissingExtraError: If Ray is not installed.
    """

    def __init__(self, store: Store, address: str | None = None, *, cpus: float = 1, gpus: float | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            from attngraft._core.errors import MissingExtraError

            raise MissingExtraError("ray", "ray") from error
        self.ray: Any = ray
        self.store = store
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False, include_dashboard=False)
        total = ray.cluster_resources()
        gpus = (1 if total.get("GPU") else 0) if gpus is None else gpus
        self.workers = max(
            1, int(min(total.get("CPU", 1) / cpus, total["GPU"] / gpus if gpus else total.get("CPU", 1)))
        )
        self.task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_far_run)
        self.tasks: dict[Run, Any] = {}

    def free(self) -> bool:
        """Tell whether a run can be started now."""
        return len(self.tasks) < self.workers

    def start(self, run: Run) -> None:
        """Start a run."""
        files = [self.store.folder / name for name in (FrozenPlan.FILE, FrozenPlan.MOVED)]
        plan = {file.name: file.read_bytes() for file in files if file.is_file()}
        self.tasks[run] = self.task.remote(str(self.store.folder), plan, run)

    def running(self) -> list[Run]:
        """List the runs that were started and have not ended."""
        return list(self.tasks)

    def ended(self) -> Iterator[tuple[Run, str]]:
        """Yield each run that has ended since the last call, with why it failed or an empty text."""
        runs = {task: run for run, task in self.tasks.items()}
        done, _ = self.ray.wait(list(runs), num_returns=len(runs), timeout=0) if runs else ([], [])
        for task in done:
            run = runs[task]
            del self.tasks[run]
            try:
                why, files = self.ray.get(task)
            except self.ray.exceptions.RayError as error:
                yield run, f"Ray: {str(error).strip().splitlines()[-1]}"
                continue
            yield run, received(self.store, files) or why

    def stop(self) -> None:
        """End every run that is going on."""
        for task in self.tasks.values():
            self.ray.cancel(task, force=True)
        self.tasks.clear()


def _far_run(folder: str, plan: Mapping[str, bytes], run: Run) -> tuple[str, dict[str, bytes]]:
    """Carry out a run on whatever machine this is; return why it failed, and the files that the study lacks."""
    import tempfile

    home = Path(folder)
    shared = all((home / name).is_file() and (home / name).read_bytes() == content for name, content in plan.items())
    with tempfile.TemporaryDirectory() as own:
        if not shared:
            home = Path(own)
            for name, content in plan.items():
                (home / name).write_bytes(content)
        store = Store(home)
        engine = Local(store, workers=1, pin=False)
        engine.start(run)
        engine.processes[run].popen.wait()
        why = next(engine.ended())[1]
        return why, {} if shared else store.parcel(run)


def received(store: Store, files: Mapping[str, bytes]) -> str:
    """Take in the files of a run that was carried out elsewhere; return why they are left out, or an empty text."""
    try:
        store.receive(files)
    except (DataError, OutputError) as error:
        return f"its files are left out: {error}"
    return ""


def fitting_workers() -> int:
    """Return how many training runs this machine carries at once.

    Ultralytics gives a training on the CPU all cores but one, eight at most; memory counts too.
    """
    from attngraft.measure import memory

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    by_cores = max(1, cores // max(1, min(8, cores - 1)))
    return max(1, min(by_cores, memory.free() // PROCESS_BYTES))


def _gpus() -> list[str]:
    """Name the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count, given = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name.strip() for name in given.split(",")][:count] if given else [str(index) for index in range(count)]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
