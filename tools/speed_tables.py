"""Write the tables of docs/speed.md and its Chinese twin from the newest results; ``--check`` exits 1 on drift."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES: dict[Path, dict[str, str]] = {
    ROOT / "docs/speed.md": {},
    ROOT / "docs/speed.zh-CN.md": {
        "| map | module | forward | its memory | forward+backward | its memory |": (
            "| 特征图 | 模块 | 前向 | 前向内存 | 前向+反向 | 前向+反向内存 |"
        ),
        "| model | training step | PyTorch |": "| 模型 | 训练步 | PyTorch |",
    },
}
"""Where the tables stand, and their heads in that language."""

SHOWN = ("MHSA", "timm BottleneckAttn", "nn.MultiheadAttention, no positions")


def modules(results: dict[str, Any]) -> str:
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


def detectors(results: dict[str, Any]) -> str:
    """Return the table of whole detectors: how many times the stock one's time, on each runtime and in training."""
    lines = ["| model | training step | PyTorch | ONNX Runtime | OpenVINO |", "|---|--:|--:|--:|--:|"]
    found = {(m["name"], m["backend"]): m for m in results["measurements"]}
    for name in list(dict.fromkeys(name for name, _ in found))[1:]:
        step = found[name, "eager"]["train_latency"]["ratio"]
        times = (found[name, backend]["latency"]["ratio"] for backend in ("eager", "onnxruntime", "openvino"))
        cells = " | ".join(f"{ratio:.2f}" for ratio in (step, *times))
        lines.append(f"| `{name.replace('.yaml', '')}` | {cells} |")
    return "\n".join(lines)


TABLES: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "speed": (modules, "mhsa-amd-epyc.json"),
    "detectors": (detectors, "detectors-amd-epyc.json"),
}


def write(page: str, place: str, heads: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the page with its table at a place rewritten, heads in its language."""
    table, results = TABLES[place]
    marks = f"<!-- {place}: begin -->", f"<!-- {place}: end -->"
    before, begin, rest = page.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (begin and end):
        raise SystemExit(f"the page has no place for a table: write the lines {' and '.join(marks)} where it belongs")
    text = table(json.loads((RESULTS / results).read_text(encoding="utf-8")))
    for head, translated in heads.items():
        text = text.replace(head, translated)
    return f"{before}{begin}\n{text}\n{end}{after}"


def main(arguments: list[str]) -> int:
    """Write the tables, or say whether they are up to date."""
    stale = False
    for path, heads in PAGES.items():
        page = before = path.read_text(encoding="utf-8")
        for place in TABLES:
            page = write(page, place, heads)
        stale |= page != before
        if "--check" not in arguments:
            path.write_text(page, encoding="utf-8")
    if stale and "--check" in arguments:
        print("the speed tables are out of date; run: make docs")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
