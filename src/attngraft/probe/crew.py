"""Who carries runs out: processes that take one after another, each replaced where a run ends it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from attngraft.probe.instrument import Instrument, ProbeRecord, ProbeRun
from attngraft.probe.ledger import parsed
from attngraft.study.running.run import end_children, environment


@dataclass(frozen=True)
class Step:
    """Something that happened to a run: it started, an epoch ended, or the run did.

    Attributes:
        run: Which.
        epoch: Epochs that are trained; 0 where it has started.
        accuracy: After the last of them.
        record: What came out, at the end.
        error: Why it failed, at the end.
    """

    run: ProbeRun
    epoch: int = 0
    accuracy: float | None = None
    record: ProbeRecord | None = None
    error: str = ""


class Crew:
    """Carries out runs, some of them at once.

    Args:
        folder: Where the log is.
        instrument: How runs are trained.
        sources: Files or modules with a class that the runs' processes enter in the registry first.
        workers: How many processes.
    """

    def __init__(self, folder: Path, instrument: Instrument, sources: Sequence[str], workers: int) -> None:
        self.folder = folder
        self.instrument = asdict(instrument)
        self.sources = list(sources)
        self.workers = workers
        self._running: dict[int, subprocess.Popen[str]] = {}
        self._stopped = threading.Event()

    def carry_out(self, runs: Sequence[ProbeRun]) -> Iterator[Step]:
        """Yield what happens, as it happens; whoever leaves early ends the processes.

        Args:
            runs: In the order in which they start.
        """
        waiting, said = deque(runs), queue.SimpleQueue[Step | BaseException | None]()
        log = (self.folder / "log.txt").open("ab")
        threads = [
            threading.Thread(target=self._work, args=(number, waiting, said, log), daemon=True)
            for number in range(min(self.workers, len(runs)))
        ]
        for thread in threads:
            thread.start()
        try:
            left = len(threads)
            while left:
                step = said.get()
                if isinstance(step, BaseException):
                    raise step
                if step is None:
                    left -= 1
                else:
                    yield step
        finally:
            self._stopped.set()
            for process in list(self._running.values()):
                end_children(process.pid)
                process.kill()
            for thread in threads:
                thread.join()
            log.close()

    def _work(self, number: int, waiting: deque[ProbeRun], said: queue.SimpleQueue[Any], log: IO[bytes]) -> None:
        try:
            while waiting and not self._stopped.is_set():
                try:
                    run = waiting.popleft()
                except IndexError:  # another took the last one
                    break
                said.put(Step(run))
                for step in self._one(number, run, log):
                    said.put(step)
            said.put(None)
        except BaseException as error:  # noqa: BLE001  # raised again where the steps are read
            said.put(error)
        finally:
            if process := self._running.pop(number, None):
                _end(process)

    def _one(self, number: int, run: ProbeRun, log: IO[bytes]) -> Iterator[Step]:
        """Send a run to the process of that number, and read what it answers."""
        process = self._running.get(number) or self._start(number, log)
        assert process.stdin is not None  # a pipe
        assert process.stdout is not None
        order = {"run": asdict(run), "instrument": self.instrument}
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            yield self._lost(number, run)
            return
        for line in process.stdout:
            answer = json.loads(line)
            if "epoch" in answer:
                yield Step(run, answer["epoch"], answer["accuracy"])
                continue
            record = answer.get("record")
            yield Step(run, record=parsed(record) if record else None, error=answer.get("error", ""))
            return
        yield self._lost(number, run)

    def _start(self, number: int, log: IO[bytes]) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "attngraft.probe.worker", str(os.getpid()), *self.sources]
        process = subprocess.Popen(
            words,
            env=environment(self.folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        self._running[number] = process
        return process

    def _lost(self, number: int, run: ProbeRun) -> Step:
        process = self._running.pop(number)
        code = process.wait()  # nothing more comes of it: it is ending
        _end(process)
        how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        return Step(run, error=f"its process {how}; what it printed is in {self.folder / 'log.txt'}")


def _end(process: subprocess.Popen[str]) -> None:
    """Close the pipes of a process, and end it unless it has ended."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # what was not sent is of no use any more
                pipe.close()
    process.kill()
    process.wait()
