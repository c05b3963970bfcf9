"""Write the tables of docs/speed.md and its Chinese twin from the newest results; ``--check`` exits 1 on drift."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
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
        "| map | positions | tiled | blocked | tiled, forward+backward | blocked, forward+backward |": (
            "| 特征图 | 位置 | tiled 前向 | blocked 前向 | tiled 前向+反向 | blocked 前向+反向 |"
        ),
        "| map | positions | in float32 | in bfloat16 | error of tiled | in float32 | in bfloat16 |": (
            "| 特征图 | 位置 | float32 | bfloat16 | tiled 的误差 | float32 的误差 | bfloat16 的误差 |"
        ),
        "| model | training step | PyTorch |": "| 模型 | 训练步 | PyTorch |",
        "| form | ONNX Runtime | its memory, MiB | OpenVINO | its memory, MiB | at any size |": (
            "| 写法 | ONNX Runtime | 内存（MiB） | OpenVINO | 内存（MiB） | 任意尺寸 |"
        ),
        "| model | runtime | form | time | memory, MiB |": "| 模型 | 运行时 | 写法 | 耗时 | 内存（MiB） |",
        "| runtime | form |": "| 运行时 | 写法 |",
        "all queries at once (written before)": "一次处理所有查询（从前导出所写）",
        "slices of queries (what export writes)": "查询分片（现在导出所写）",
        "one head at a time": "逐头处理",
        "a loop over rows of queries": "逐行循环",
        ", positions as mask": "，位置作为掩码",
        ", positions as bias": "，位置作为偏置",
        ", positions as channels": "，位置作为通道",
        ", 10 slices": "，10 片",
        " (opset 23)": "（opset 23）",
        " (refused by one)": "（有一个运行时不支持）",
        "| yes |": "| 是 |",
        "| no |": "| 否 |",
    },
}
"""Where the tables stand, and their heads and words in that language."""

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
                    f"{100 * row['forward_bytes'] / base['forward_bytes']:.0f} %",
                    f"{1 / row['training']['ratio']:.1f}x",
                    f"{100 * row['training_bytes'] / base['training_bytes']:.0f} %",
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


def forms(results: dict[str, Any]) -> str:
    """Return the table of forms of one layer at 40 x 40 cells: time by the first's, and memory, on each runtime."""
    lines = [
        "| form | ONNX Runtime | its memory, MiB | OpenVINO | its memory, MiB | at any size |",
        "|---|--:|--:|--:|--:|---|",
    ]
    found = {case["runtime"]: case for case in results["cases"] if (case["what"], case["shape"][2]) == ("layer", 40)}
    rows = {runtime: {row["name"]: row for row in case["rows"]} for runtime, case in found.items()}
    refused = {name for case in found.values() for name in case["refused"]}
    for name in dict.fromkeys(name for of in rows.values() for name in of):
        known = [of.get(name) for of in rows.values()]
        cells = [cell for row in known for cell in (_time(row), _memory(row))]
        opened = [row["open"] for row in known if row and "open" in row]
        sizes = "" if not opened else "no" if any(opened) else "yes"
        lines.append(f"| {name}{' (refused by one)' if name in refused else ''} | {' | '.join(cells)} | {sizes} |")
    return "\n".join(lines)


def _time(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    spent = row["processor"]
    return f"{spent['ratio']:.2f} ({spent['ratio_low']:.2f}-{spent['ratio_high']:.2f})"


def _memory(row: dict[str, Any] | None) -> str:
    return f"{row['peak_bytes'] / 2**20:.1f}" if row and "peak_bytes" in row else "–"


def sizes(results: dict[str, Any]) -> str:
    """Return the table of how time and memory of some forms grow with the map."""
    cases = {(case["runtime"], case["shape"][2]): case for case in results["cases"] if case["what"] == "layer"}
    sides = sorted({side for _, side in cases})
    lines = [f"| runtime | form | {' | '.join(f'{side}x{side} | MiB' for side in sides)} |"]
    lines.append(f"|---|---|{'--:|--:|' * len(sides)}")
    for runtime in dict.fromkeys(runtime for runtime, _ in cases):
        tables = [{row["name"]: row for row in cases[runtime, side]["rows"]} for side in sides]
        for name in tables[0]:
            cells = [cell for table in tables for cell in (_time(table.get(name)), _memory(table.get(name)))]
            lines.append(f"| {RUNTIMES[runtime]} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def graphs(results: dict[str, Any]) -> str:
    """Return the table of a whole detector with some forms: times the stock one's."""
    lines = ["| model | runtime | form | time | memory, MiB |", "|---|---|---|--:|--:|"]
    for case in results["cases"]:
        for row in case["rows"] if case["what"] == "detector" else ():
            model, _, form = row["name"].partition(", ")
            names = f"`{model.replace('.yaml', '')}` | {RUNTIMES[case['runtime']]}"
            lines.append(f"| {names} | {form} | {_time(row)} | {_memory(row)} |")
    return "\n".join(lines)


RUNTIMES = {"eager": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def kernels(results: dict[str, Any]) -> str:
    """Return the table of kernels: times of PyTorch's fused kernel without positions, round by round."""
    lines = [
        "| map | positions | tiled | blocked | tiled, forward+backward | blocked, forward+backward |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for shape, kind, rows in _kernel_cases(results):
        floor = rows.get("fused, no positions") or rows["fused"]
        cells = [
            f"{over(rows[name], floor, mode):.2f}" for mode in ("forward", "training") for name in ("tiled", "blocked")
        ]
        lines.append(f"| {shape} | {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def halves(results: dict[str, Any]) -> str:
    """Return the table of the kernels in bfloat16: times of `tiled` and errors."""
    names = ("blocked, products of float32", "blocked, products of bfloat16")
    lines = [
        "| map | positions | in float32 | in bfloat16 | error of tiled | in float32 | in bfloat16 |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for shape, kind, rows in _kernel_cases(results):
        cells = [f"{over(rows[name], rows['tiled'], 'forward'):.2f}" for name in names]
        cells += [f"{rows[name]['error']:.1e}" for name in ("tiled", *names)]
        lines.append(f"| {shape} | {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _kernel_cases(results: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the map, the kind of positions and the rows by name of each case of ``--part kernels``."""
    for case in results["cases"]:
        part, _, shape = case["name"].partition(", ")
        kind = "none" if "without" in part else "relative"
        yield shape.rpartition(", ")[0], kind, {row["name"]: row for row in case["rows"]}


def over(row: dict[str, Any], base: dict[str, Any], mode: str) -> float:
    """Return the median over the rounds of one contender's time by another's in the same round."""
    pairs = zip(row[mode]["samples_ms"], base[mode]["samples_ms"], strict=True)
    return median(mine / theirs for mine, theirs in pairs)


TABLES: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "speed": (modules, "mhsa-amd-epyc.json"),
    "kernels": (kernels, "mhsa-kernels-amd-epyc.json"),
    "halves": (halves, "mhsa-kernels-bfloat16-amd-epyc.json"),
    "detectors": (detectors, "detectors-amd-epyc-avx512.json"),
    "forms": (forms, "deployed-amd-epyc.json"),
    "sizes": (sizes, "deployed-amd-epyc.json"),
    "graphs": (graphs, "deployed-amd-epyc.json"),
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
