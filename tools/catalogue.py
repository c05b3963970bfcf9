"""Write docs/catalogue.md and its Chinese twin from the registry of mechanisms.

Run it after a change to a mechanism. With --check nothing is written, and the exit status is 1 if one is out of date.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import attngraft.attention as zoo

ROOT = Path(__file__).resolve().parents[1]
WIDTH, SIDE = 256, 20
SPEED = "circulated-amd-epyc-avx512"
TIMED = "40x40, 256 channels, batch 8"

COLUMNS = ("Name", "Class", "Year", "Attends over", "Role", "Parameters", "Multiply-adds", "Memory", "Speed")
CHINESE = {
    "Name": "名称",
    "Class": "类",
    "Year": "年份",
    "Attends over": "注意范围",
    "Role": "类别",
    "Parameters": "参数量",
    "Multiply-adds": "乘加次数",
    "Memory": "内存",
    "Speed": "速度",
    "gate": "门控",
    "mixer": "混合",
    "channel and spatial gate": "通道与空间门控",
    "channel gate": "通道门控",
    "channel self-attention": "通道自注意力",
    "control": "对照",
    "convolution with channel gate": "卷积加通道门控",
    "coordinate gate": "坐标门控",
    "deformable self-attention": "可变形自注意力",
    "global context": "全局上下文",
    "global self-attention": "全局自注意力",
    "large-kernel gate": "大核门控",
    "linear self-attention": "线性自注意力",
    "local self-attention": "局部自注意力",
    "multi-scale convolution": "多尺度卷积",
    "parameter-free gate": "无参数门控",
    "receptive-field convolution": "感受野卷积",
    "routed self-attention": "路由自注意力",
    "spatial gate": "空间门控",
    "window self-attention": "窗口自注意力",
}
"""Columns, roles and families in Chinese; a family that is not here stays English."""

HEADER = f"""# Catalogue

Every mechanism there is, written by `python tools/catalogue.py` from the source: do not edit.
[中文](catalogue.zh-CN.md)

Parameters and multiply-adds are those of the defaults on a map of {WIDTH} channels and {SIDE} x {SIDE} cells, which is
P5 of a 640-pixel image. Memory is the order in which that of training grows with the number of cells N. A *mixer* is
grafted as `x + gamma * f(x)`, a *gate* as `x + gamma * (f(x) - x)`, with gamma zero at the start.

Each exports to ONNX (fixed and free sizes), OpenVINO and TorchScript and gives the same numbers there, at the size that
it was traced with and at others; `tests/attention/test_contract.py` runs all of these files.

Speed is how many times as fast as its reference implementation it is, as an inference and in training, on
{TIMED}: the medians of `benchmarks/results/{SPEED}.md`, where the intervals and other sizes are. A dash: the reference
implementation is the same layers; MHSA has a [table of its own](speed.md).

"""

CHINESE_HEADER = f"""# 机制目录

全部机制，由 `python tools/catalogue.py` 从源码生成，请勿手工修改。表格之后的各节保留英文原文。[English](catalogue.md)

参数量与乘加次数按默认选项计算，特征图为 {WIDTH} 通道、{SIDE} x {SIDE} 个单元格，即 640 像素图像的 P5。
内存一列是训练内存随单元格数 N 增长的阶。
*混合类*机制嫁接为 `x + gamma * f(x)`，*门控类*机制嫁接为 `x + gamma * (f(x) - x)`，gamma 初值为零。

每个机制都能导出为 ONNX（固定与动态尺寸）、OpenVINO 与 TorchScript，数值一致；
`tests/attention/test_contract.py` 会运行这些文件。

速度是相对参考实现的倍数（推理，训练），测量于 {TIMED}，为 `benchmarks/results/{SPEED}.md` 的中位数。
短横线表示参考实现就是同样的层；MHSA [另有一表](speed.zh-CN.md)。

"""


def records() -> list[zoo.Mechanism]:
    """Return the records of our own mechanisms by name."""
    return [r for _, r in sorted(zoo.mechanisms().items()) if r.cls.__module__.startswith("attngraft.")]


def cost(record: zoo.Mechanism) -> tuple[int, int]:
    """Return the parameters and the multiply-adds of one image."""
    module = record.cls(WIDTH, **record.cls.fit(WIDTH))
    return sum(p.numel() for p in module.parameters()), module.macs(SIDE, SIDE)


def speeds() -> dict[str, str]:
    """Return how many times as fast as its reference implementation each mechanism is: an inference, and training."""
    record = json.loads((ROOT / "benchmarks" / "results" / f"{SPEED}.json").read_text(encoding="utf-8"))
    rows = {case["name"]: case["rows"][1] for case in record["cases"]}
    shown = {
        name: f"{1 / row['forward']['ratio']:.1f}, {1 / row['training']['ratio']:.1f}" for name, row in rows.items()
    }
    ours = {name.removesuffix(f", {TIMED}"): text for name, text in shown.items() if name.endswith(TIMED)}
    return ours | {"polarized": ours["polarized, parallel"]}


def probed() -> dict[str, str]:
    """Return what each mechanism learned of the probes in studies/probes, as seeds that learned of seeds."""
    file = ROOT / "studies" / "probes" / "report.json"
    found = json.loads(file.read_text(encoding="utf-8"))["mechanisms"]
    return {
        one["name"]: ", ".join(f"{s['probe']} {s['learned']}/{s['seeds']}" for s in one["scores"] if not s["control"])
        for one in found
    }


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out as a Markdown table; the first is its head."""
    head, *body = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body]) + "\n"


def overview(words: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the table of all mechanisms, each linked to its section, in the words of a language."""
    rows = [tuple(words.get(column, column) for column in COLUMNS)]
    speed = speeds()
    for r in records():
        parameters, macs = cost(r)
        link = f"[`{r.name}`](#{r.name})"
        figures = (f"{parameters:,}", f"{macs:,}", r.growth, speed.get(r.name, "–"))
        rows.append(
            (
                link,
                f"`{r.cls.__name__}`",
                str(r.year),
                *(words.get(word, word) for word in (r.family, r.role)),
                *figures,
            )
        )
    return table(rows)


def section(record: zoo.Mechanism, learned: Mapping[str, str]) -> str:
    """Return what there is to say of one mechanism."""
    facts = {"Paper": record.paper, "Code": record.code, "Differs": record.differs}
    lines = [f"## {record.name}", "", record.summary, "", f"    {record.formula}", ""]
    lines += [f"- **{key}**: {text}" for key, text in facts.items()]
    lines += [f"- `{option.name}={option.default!r}`: {option.about}" for option in record.options.values()]
    if record.name in learned:
        lines.append(f"- [**Probes**](../studies/probes/README.md), seeds that learned: {learned[record.name]}.")
    return "\n".join(lines).replace("``", "`") + "\n"


def outputs(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file and what it should hold."""
    learned = probed()
    sections = [section(record, learned) for record in records()]
    yield root / "docs/catalogue.md", HEADER + "\n".join([overview(), *sections])
    yield root / "docs/catalogue.zh-CN.md", CHINESE_HEADER + "\n".join([overview(words=CHINESE), *sections])


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the files, or say which are out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    check = parser.parse_args(arguments).check
    stale = [(path, text) for path, text in outputs(root) if not path.exists() or path.read_text("utf-8") != text]
    for path, text in stale:
        what = "is out of date: run python tools/catalogue.py" if check else "written"
        print(path.relative_to(root).as_posix(), what)
        if not check:
            path.write_text(text, encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
