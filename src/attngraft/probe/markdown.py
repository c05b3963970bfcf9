"""The report of probes: a page of Markdown, its JSON, and the figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from attngraft._core.errors import MissingExtraError
from attngraft._core.files import write_text
from attngraft.data.probes import PROBES
from attngraft.probe.heatmap import draw
from attngraft.probe.instrument import NONE
from attngraft.probe.tally import SCHEMA, MechanismTally, ProbeScore, Tally

REPORT, NUMBERS, FIGURE = "report.md", "report.json", "figure.png"


def write(found: Tally, folder: Path) -> list[Path]:
    """Write report, numbers and figure, and return their paths; without matplotlib there is no figure.

    Args:
        found: What the runs came to.
        folder: Where to; files of before are replaced, as they are made of the same records.

    Raises:
        OutputError: If they cannot be written.
    """
    numbers = folder / NUMBERS
    write_text(numbers, json.dumps({"schema": SCHEMA, **asdict(found)}, indent=1) + "\n")
    try:
        figure = [draw(found, folder / FIGURE)]
    except MissingExtraError:
        figure = []
    write_text(folder / REPORT, page(found, figure=bool(figure)))
    return [folder / REPORT, numbers, *figure]


def page(found: Tally, *, figure: bool = True) -> str:
    """Return the report.

    Args:
        found: What the runs came to.
        figure: Whether to show the figure that stands beside it.
    """
    parts = ["# Probes: what each mechanism learned", _methods(found)]
    parts += ["![Accuracy of each mechanism on each probe](figure.png)"] if figure else []
    parts += ["## Probes", table(found), "## Controls", _controls(found)]
    parts += ["## Rate of learning and AP50", _rates(found)]
    parts += ["## Steps to learn", _steps(found)]
    if "reach" in found.probes:
        parts += ["## Accuracy by distance", _reach(found)]
    parts += ["## What each probe asks", _questions(found), "## Reproducibility", _reproducibility(found)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def cell(score: ProbeScore | None) -> str:
    """Say how many seeds learned, and where they ended, in a few signs.

    Example:
        >>> cell(ProbeScore("reach", False, 3, 2, 0.09, 0.99, 0.842, 80.0, 250.0))
        '2/3 .84'
    """
    if score is None:
        return "not run"
    shown = f"{score.accuracy:.2f}".removeprefix("0")
    return f"{score.learned}/{score.seeds} {shown}"


def table(found: Tally) -> str:
    """Return the table of mechanisms and probes."""
    head = ["mechanism", "parameters", *found.probes]
    rows = [[f"`{m.name}`", f"{m.parameters:,}", *(cell(m.score(p)) for p in found.probes)] for m in found.mechanisms]
    return markdown(head, rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out as a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def learned(mechanism: MechanismTally, score: ProbeScore) -> str:
    """Say in a sentence how often a probe was learned."""
    rate = f"{score.learned} of {score.seeds} seeds ({100 * score.low:.0f}–{100 * score.high:.0f} %)"
    when = f", after {score.steps:.0f} steps" if score.steps else ""
    return (
        f"{mechanism.name} learned {score.probe} at {rate}{when}; accuracy {score.accuracy:.2f}, AP50 {score.ap50:.1f}"
    )


def _methods(found: Tally) -> str:
    used = found.instrument
    return (
        f"Each mechanism stands at {used.place} of `{used.base}`, in its paper's form, and is trained with "
        f"Ultralytics' loss on {used.images} generated images, for {used.epochs} epochs of {used.steps} steps or until "
        f"the accuracy on {used.validation} other images is {used.enough:g}. Accuracy is that of the stronger class at "
        f"each object's centre; guessing gives .5. A run has learned its probe from {used.learned:g} on. A cell shows "
        f"how many seeds learned of how many, and the mean accuracy of all. `{NONE}` is the detector without a "
        "mechanism, which cannot see what tells the class."
    )


def _controls(found: Tally) -> str:
    ran = [m for m in found.mechanisms if any(score.control for score in m.scores)]
    if not ran:
        return "No control was run."
    head = ["mechanism", *found.probes]
    rows = [[f"`{m.name}`", *(cell(m.score(p, control=True)) for p in found.probes)] for m in ran]
    about = "The same images, and classes that an object's own pixels tell: what fails here fails at training."
    return f"{about}\n\n{markdown(head, rows)}"


def _rates(found: Tally) -> str:
    head = ["mechanism", *found.probes]
    rows = []
    for m in found.mechanisms:
        scores = [m.score(p) for p in found.probes]
        said = ["–" if s is None else f"{100 * s.low:.0f}–{100 * s.high:.0f} %, {s.ap50:.1f}" for s in scores]
        rows.append([f"`{m.name}`", *said])
    about = "95 % intervals of the share of seeds that learn (Clopper and Pearson), and mean AP at an overlap of .5."
    return f"{about}\n\n{markdown(head, rows)}"


def _steps(found: Tally) -> str:
    head = ["mechanism", *found.probes]
    rows = []
    for m in found.mechanisms:
        scores = [m.score(p) for p in found.probes]
        rows.append([f"`{m.name}`", *("–" if s is None or s.steps is None else f"{s.steps:.0f}" for s in scores)])
    return f"Medians of the runs that learned, looked at after every epoch.\n\n{markdown(head, rows)}"


def _reach(found: Tally) -> str:
    ran = [m for m in found.mechanisms if m.reach]
    lows = sorted({one.low for m in ran for one in m.reach})
    head = ["mechanism", *(f"{low}–{low + 7}" for low in lows), "reaches"]
    rows = []
    for m in ran:
        at = {one.low: f"{one.right / one.objects:.2f}".removeprefix("0") for one in m.reach}
        ends = ", ".join("–" if end is None else str(end) for end in m.reaches)
        rows.append([f"`{m.name}`", *(at.get(low, "") for low in lows), ends])
    about = (
        "Pixels between the object and the square that tells its class, edge to edge; over all seeds. *reaches*: of "
        f"each run, the last pixel up to which the accuracy is {found.instrument.learned:g}, by the fit that never "
        "rises with distance: one bin has few objects, and what sees far sees nearer, too."
    )
    return f"{about}\n\n{markdown(head, rows)}"


def _questions(found: Tally) -> str:
    rows = [[name, PROBES[name].asks, PROBES[name].needs] for name in found.probes]
    return markdown(["probe", "the class is", "what it takes"], rows)


def _reproducibility(found: Tally) -> str:
    return (
        f"{found.runs} runs, {found.seconds / 60:.0f} minutes of processor time; {'; '.join(found.versions)}; on "
        f"{', '.join(found.devices)}. Instrument {found.hash}. Equal seeds give equal initial weights outside the "
        "mechanism, and the same images and flips in the same order."
    )
