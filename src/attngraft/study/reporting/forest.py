"""The report of a combination: a forest plot, a table and a paragraph, as one page and as Markdown."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from attngraft._core.errors import MissingExtraError, OutputError
from attngraft._core.files import write_text
from attngraft._core.json_text import parse_json
from attngraft.study.judging.combine import SCHEMA, Combined
from attngraft.study.reporting.formatting import between, signed
from attngraft.study.reporting.report import environment

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILES = ("combined.md", "combined.html")
NUMBERS = "combined.json"
Z = 1.96


def write_combined(combined: Combined, folder: Path) -> Path:
    """Write ``combined.html``, ``combined.md`` and ``combined.json`` into a folder; return the path of the first.

    Args:
        combined: The combination.
        folder: Where to.

    Raises:
        MissingExtraError: If jinja2 or matplotlib is not installed.
        OutputError: If the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not _is_combination(folder / NUMBERS):
        raise OutputError(f"{folder} holds something else than a combination; name another folder with -o")
    templates = environment()
    try:
        figure = forest(combined)
    except ImportError as error:
        raise MissingExtraError(str(error.name).partition(".")[0], "study") from error
    content = {"combined": combined, "figure": figure, "sentences": sentences(combined)}
    for name in FILES:
        write_text(folder / name, templates.get_template(f"{name}.j2").render(content))
    write_text(folder / NUMBERS, json.dumps({"schema": SCHEMA, **asdict(combined)}, indent=1))
    return folder / "combined.html"


def _is_combination(file: Path) -> bool:
    try:
        return bool(parse_json(file.read_text(encoding="utf-8"))["schema"] == SCHEMA)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def sentences(combined: Combined) -> list[str]:
    """Say what the studies say together."""
    level = f"{100 * combined.level:g} %"
    k = len(combined.members)
    said = [
        f"Over {k} studies, {combined.arm} changes {combined.metric} by {signed(combined.difference)} points on "
        f"average ({level} interval {between(*combined.interval)}, p = {combined.p:.2g}; random effects, "
        "DerSimonian-Laird with Hartung-Knapp).",
        f"The effects differ between studies by a standard deviation of {combined.tau:.2f} points; "
        f"{100 * combined.i_squared:.0f} % of their variance is more than their own errors explain.",
    ]
    if combined.prediction is None:
        said.append("Two studies say nothing of what a third would give.")
    else:
        said.append(f"In one more such study the effect is expected within {between(*combined.prediction)} ({level}).")
    return [*said, f"An improvement is shown in at least {combined.replicated} of the {k} studies."]


def forest(combined: Combined) -> str:
    """Draw each study with its interval, the combined difference as a diamond, and the prediction as a thin line."""
    from attngraft.study.reporting.figures import FAINT, INK, SERIES, as_svg, new_figure, plain

    members = combined.members
    figure, axes = new_figure(0.42 * (len(members) + 1) + 1.0)
    axes.axvline(0, color=INK, lw=0.8)
    for row, member in enumerate(reversed(members), 1):
        reach = Z * member.error
        axes.plot([member.difference - reach, member.difference + reach], [row, row], color=SERIES[0], lw=1.6)
        axes.plot([member.difference], [row], "s", color=SERIES[0], ms=4 + 8 * member.weight)
    _diamond(axes, combined, INK)
    if combined.prediction is not None:
        axes.plot(combined.prediction, [0, 0], color=FAINT, lw=1, zorder=0)
    names = ["combined", *(plain(member.name) for member in reversed(members))]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(f"difference to the baseline, {plain(combined.metric)} points; grey: one more study (prediction)")
    return as_svg(figure, "forest")


def _diamond(axes: Axes, combined: Combined, colour: str) -> None:
    low, high = combined.interval
    axes.fill([low, combined.difference, high, combined.difference], [0, 0.25, 0, -0.25], color=colour, lw=0)
