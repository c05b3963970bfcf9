"""The process that trains, ``python -m attngraft.probe.worker``: runs come in as lines of JSON, records go out.

A process of its own, so that a mechanism that crashes takes one run with it. It ends when nobody sends runs any more,
and with the process that started it.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, TextIO

from attngraft._core.errors import first_line


def serve(orders: TextIO, answers: TextIO, sources: Sequence[str] = ()) -> None:
    """Carry out the runs that come, one after another.

    Args:
        orders: A line for each run: its fields, and the settings of the instrument.
        answers: A line after each epoch, and one at the end: the record, or why there is none.
        sources: Files or modules with a class that is entered in the registry first.
    """
    import torch

    from attngraft.probe.instrument import Instrument, ProbeRun, train
    from attngraft.probe.names import checksums, enter

    torch.set_num_threads(1)
    for source in sources:
        enter(source)
    of_files = checksums()  # of what was imported, whatever is edited later

    def answer(**content: Any) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    for line in orders:
        order = json.loads(line)
        run, instrument = ProbeRun(**order["run"]), Instrument(**order["instrument"])
        try:
            record = train(run, instrument, lambda epoch, accuracy: answer(epoch=epoch, accuracy=accuracy))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is noted and the other runs go on
            traceback.print_exc()
            answer(error=first_line(error))
        else:
            answer(record=asdict(replace(record, source=of_files.get(run.mechanism.partition("(")[0], ""))))


def main() -> None:
    """Serve whoever started this process; what libraries print goes to the log."""
    from attngraft.study.running.run import end_with_parent

    end_with_parent(int(sys.argv[1]))
    answers, sys.stdout = sys.stdout, sys.stderr
    serve(sys.stdin, answers, sys.argv[2:])


if __name__ == "__main__":
    main()
