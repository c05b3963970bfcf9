"""What is kept of probes in a folder: a line for each finished run, appended when it ends.

FOLDER/instrument.json   the settings of the instrument, written before the first run
FOLDER/records.jsonl     a line for each finished run; several calls add up
FOLDER/status.json       how far the call under way is, for programs
FOLDER/report.md, report.json, figure.png
FOLDER/log.txt           what the runs' processes printed
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from attngraft._core.errors import DataError, OutputError, PlanError
from attngraft._core.files import write_text
from attngraft._core.schemas import json_schema
from attngraft._core.shortage import shortage
from attngraft.data.probes import PROBES
from attngraft.probe.instrument import Instrument, ProbeRecord, ProbeRun

RECORDS = "records.jsonl"
INSTRUMENT = "instrument.json"
STATUS = "status.json"
WRITTEN = (RECORDS, STATUS, "report.md", "report.json", "figure.png")
"""What probes write into their folder, beside the settings of the instrument."""

SCHEMA = "attngraft.probe_status/1"

_RECORD = TypeAdapter(ProbeRecord)


@dataclass(frozen=True)
class ProbeRunStatus:
    """How far one run is.

    Attributes:
        mechanism: As in `ProbeRun`.
        probe: As in `ProbeRun`.
        control: As in `ProbeRun`.
        seed: As in `ProbeRun`.
        state: Whether it waits, runs, is finished or failed.
        epoch: Epochs that are trained.
        accuracy: After the last of them; None before one.
        error: Why it failed.
    """

    mechanism: str
    probe: str
    control: bool
    seed: int
    state: Literal["waiting", "running", "finished", "failed"] = "waiting"
    epoch: int = 0
    accuracy: float | None = None
    error: str = ""


@dataclass(frozen=True)
class ProbeStatus:
    """How far a call is.

    Attributes:
        state: Whether a process is carrying it out, or it ended.
        process: That process on its machine.
        updated: When this was written, in UTC.
        seconds_left: Estimate for the runs that wait, from those that this call finished; None before one is.
        runs: Every run that was asked for.
    """

    state: Literal["running", "ended"]
    process: int
    updated: str
    seconds_left: float | None
    runs: tuple[ProbeRunStatus, ...]


def status_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of ``status.json``."""
    return json_schema(ProbeStatus, SCHEMA)


class Ledger:
    """The folder of probes.

    Args:
        folder: Where it is, or will be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()

    @property
    def begun(self) -> bool:
        """Whether the settings of the instrument are written."""
        return (self.folder / INSTRUMENT).is_file()

    def open(self, instrument: Instrument) -> None:
        """Write the settings of the instrument, or require that they are those of before.

        Raises:
            PlanError: If the folder holds runs of another instrument; names what differs.
            OutputError: If it cannot be written, or the folder holds files of the same names that are no probes.
        """
        file = self.folder / INSTRUMENT
        wanted = json.loads(json.dumps(asdict(instrument)))
        if not self.begun:
            strange = [name for name in WRITTEN if (self.folder / name).exists()]
            if strange:
                raise OutputError(
                    f"{self.folder} holds {strange[0]}, which is of no probes, and they would write over it; name "
                    "another folder with output="
                )
            write_text(file, json.dumps(wanted, indent=1) + "\n")
            return
        before = self.instrument()
        differ = [
            f"{key} was {value!r}, now {wanted[key]!r}" for key, value in asdict(before).items() if value != wanted[key]
        ]
        if differ:
            raise PlanError(
                f"{self.folder} holds probes of another instrument ({', '.join(differ)}), and their numbers cannot be "
                "counted together; name another folder"
            )

    def instrument(self) -> Instrument:
        """Read the settings of the instrument.

        Raises:
            PlanError: If the folder holds none, or the file is not what was written.
        """
        file = self.folder / INSTRUMENT
        try:
            return TypeAdapter(Instrument).validate_json(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise PlanError(f"{self.folder} holds no probes; begin with: attngraft probe mhsa") from error
        except ValidationError as error:
            raise PlanError(f"{file} is not what probes wrote; put it back, or name another folder") from error

    def records(self) -> dict[ProbeRun, ProbeRecord]:
        """Read the finished runs, in the order in which they ended.

        A last line without an end is what a kill left, and its run counts as not carried out.

        Raises:
            DataError: If a line cannot be read.
        """
        file = self.folder / RECORDS
        found: dict[ProbeRun, ProbeRecord] = {}
        lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
        wanted = self.instrument().hash if lines else ""
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                continue
            try:
                record = _RECORD.validate_json(line)
            except ValidationError as error:
                raise DataError(
                    f"line {number} of {file} is no record of a probe; take it out, and it is run again"
                ) from error
            if record.probe not in PROBES:
                raise DataError(
                    f"line {number} of {file} is of a probe {record.probe!r}, which this release does not have; update "
                    "attngraft, or take the line out"
                )
            if record.instrument != wanted:
                raise DataError(
                    f"line {number} of {file} was taken with the instrument {record.instrument}, and the folder's is "
                    f"{wanted}; their numbers cannot be counted together"
                )
            found.setdefault(record.run, record)
        return found

    def add(self, record: ProbeRecord) -> None:
        """Append a finished run.

        Raises:
            OutputError: If it cannot be written.
        """
        file = self.folder / RECORDS
        line = json.dumps(asdict(record)) + "\n"
        try:
            with file.open("a+b") as opened:
                _cut_unfinished(opened)
                opened.write(line.encode())
                opened.flush()
                os.fsync(opened.fileno())
        except OSError as error:
            raise OutputError(f"{file} is not written: {shortage(error) or error.strerror or error}") from error

    def tell(self, state: Literal["running", "ended"], left: float | None, runs: Sequence[ProbeRunStatus]) -> None:
        """Write ``status.json``."""
        stamp = datetime.now(timezone.utc).isoformat(timespec="seconds")
        status = ProbeStatus(state, os.getpid(), stamp, left, tuple(runs))
        write_text(self.folder / STATUS, json.dumps({"schema": SCHEMA, **asdict(status)}, indent=1))


def parsed(line: str | Mapping[str, Any]) -> ProbeRecord:
    """Read a record that a run's process sent."""
    return _RECORD.validate_json(line) if isinstance(line, str) else _RECORD.validate_python(line)


def _cut_unfinished(opened: Any) -> None:
    """Take off what a kill left of a line."""
    end = opened.seek(0, os.SEEK_END)
    if not end:
        return
    opened.seek(0)
    whole = opened.read()
    kept = whole.rfind(b"\n") + 1
    if kept < end:
        opened.truncate(kept)
        opened.seek(0, os.SEEK_END)
