"""The report of a study: one page that opens offline, and the same as Markdown and LaTeX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attngraft._core.errors import MissingExtraError, PlanError
from attngraft._core.escape import latex_text, markdown_text
from attngraft._core.files import write_text
from attngraft.study.judging.results import Results
from attngraft.study.layout import REPORT
from attngraft.study.reporting import formatting, words

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
FILTERS = {
    "points": formatting.points,
    "signed": formatting.signed,
    "count": formatting.count,
    "tex": latex_text,
    "markdown": markdown_text,
}


@dataclass(frozen=True)
class Conclusion:
    """What a study came to.

    Attributes:
        report: The page, ``report.html``.
        answers: A sentence for each arm that was asked for, as the page has them.
    """

    report: Path
    answers: tuple[str, ...]


def write_report(results: Results, folder: Path) -> Conclusion:
    """Write ``report.html``, ``report.md``, ``table.tex`` and ``breakdown.tex`` into a folder.

    Args:
        results: What the study came to.
        folder: Where to.

    Raises:
        PlanError: If nothing can be compared yet.
        MissingExtraError: If jinja2 or matplotlib is not installed.
    """
    if not results.arms:
        raise PlanError(f"{folder} has no seed at which the baseline and an arm are both finished and a pair")
    templates = environment()
    try:
        from attngraft.study.reporting.figures import figures
    except ImportError as error:
        raise MissingExtraError(str(error.name).partition(".")[0], "study") from error
    from attngraft.study.reporting.look_commands import look_commands
    from attngraft.study.reporting.sheet import sheet

    headline = words.headline(results)
    content = {
        "results": results,
        "setting": results.setting,
        "headline": headline,
        "figures": figures(results),
        "sheet": sheet(results.samples, results.classes),
        "looks": look_commands(results, folder),
    }
    for name in REPORT:
        write_text(folder / name, templates.get_template(f"{name}.j2").render(content))
    return Conclusion(folder / "report.html", tuple(headline))


def environment() -> Environment:
    """Return what renders the templates.

    Raises:
        MissingExtraError: If jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("jinja2", "study") from error
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
    )
    templates.globals |= {"words": words, "between": formatting.between, "level": formatting.level}
    templates.filters |= FILTERS
    return templates
