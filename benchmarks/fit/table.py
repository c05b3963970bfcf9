"""Write what a script of this folder measured beside it, as JSON and as a Markdown page."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

HOME = Path(__file__).parent


def write(name: str, about: str, columns: Sequence[str], rows: Mapping[str, Mapping[str, float]]) -> None:
    """Write ``name.json`` and ``name.md``.

    Args:
        name: The script.
        about: What was done, in a paragraph.
        columns: The numbers to show, in this order.
        rows: The numbers of each arm.
    """
    made_with = {"torch": str(torch.__version__), "python": platform.python_version(), "machine": platform.machine()}
    content = {"about": about, "versions": made_with, "rows": rows}
    (HOME / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    lines = [f"# {name}", "", about, "", f"| | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    digits = {column: 4 if all(numbers[column] <= 1 for numbers in rows.values()) else 2 for column in columns}
    for arm, numbers in rows.items():
        lines.append(f"| {arm} | {' | '.join(f'{numbers[column]:.{digits[column]}f}' for column in columns)} |")
    lines += ["", f"Written by `{name}.py` with PyTorch {made_with['torch']} on a CPU."]
    (HOME / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
