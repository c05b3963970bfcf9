"""Write the README's speed table from the newest results of ``benchmarks/mhsa.py``; ``--check`` exits 1 on drift."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "mhsa-amd-epyc.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
SHOWN = ("MHSA", "timm BottleneckAttn", "nn.MultiheadAttention, no positions")


def table(results: dict[str, Any]) -> str:
    """Return the table of whole modules: how many times as fast, and in how much of the memory, as the circulated."""
    lines = ["| map | module | forward | its memory | forward+backward | its memory |", "|---|---|--:|--:|--:|--:|"]
    for case in results["cases"]:
        kind, _, shape = case["name"].partition(", ")
        rows = {row["name"]: row for row in case["rows"]}
        for name in SHOWN if kind == "modules" else ():
            if name in rows:
                base, row = rows["circulated"], rows[name]
                cells = [
                    f"{1 / row['forward']['ratio']:.1f}x",
                    f"{row['forward_bytes'] / base['forward_bytes']:.0%}",
                    f"{1 / row['training']['ratio']:.1f}x",
                    f"{row['training_bytes'] / base['training_bytes']:.0%}",
                ]
                lines.append(f"| {shape.removesuffix(', float32')} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Write the table, or say whether it is up to date."""
    before, begin, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"README.md has no place for the table: write the lines {BEGIN} and {END} where it belongs")
    page = f"{before}{BEGIN}\n{table(json.loads(RESULTS.read_text()))}\n{END}{after}"
    if "--check" not in arguments:
        README.write_text(page, encoding="utf-8")
        return 0
    if page != README.read_text(encoding="utf-8"):
        print("the README's speed table is out of date; run: make docs")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
