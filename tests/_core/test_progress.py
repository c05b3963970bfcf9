"""The one protocol by which long work says what it is doing."""

from __future__ import annotations

from attngraft._core.progress import SILENT, Lines, Progress, Silent


def work(progress: Progress = SILENT) -> int:
    progress.started("counting")
    progress.finished("counting", 3)
    progress.line("1 was left out")
    return 3


def test_work_is_silent_unless_it_is_given_one() -> None:
    assert work() == work(Silent()) == 3


def test_lines_writes_what_stays_and_nothing_else() -> None:
    written: list[str] = []
    work(Lines(written.append))
    assert written == ["1 was left out"]


def test_a_part_of_it_can_be_overridden() -> None:
    class Results(Silent):
        def finished(self, what: str, result: object = None) -> None:
            seen[what] = result

    seen: dict[str, object] = {}
    work(Results())
    assert seen == {"counting": 3}
