"""Forms of MHSA's attention that runtimes can be given: time, peak memory and open sizes, of a layer and a detector.

    python benchmarks/deployed.py            about 20 minutes of one free core
    python benchmarks/deployed.py --quick    a small map and few rounds, nothing written

Forms must agree with PyTorch before they are timed. Some need what the tracing exporter cannot write; they are written
under a domain of ours and renamed. Each file is converted once, before the first timed round.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from _timing import RESULTS, commit, result_file
from numpy.typing import NDArray
from torch import Tensor, nn

from attngraft import export
from attngraft._core.calls import tensors
from attngraft.attention import MHSA
from attngraft.attention._kernel_stock import _example, _mixed, factored, sliced
from attngraft.attention._kernels import KERNELS
from attngraft.attention._offsets import Offsets, axis_logits
from attngraft.bench.backends import deployed
from attngraft.doctor.detector.subject import DetectorSubject
from attngraft.measure import environment, latency

Mix = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], Tensor]
"""Fused attention of scaled queries: q, k, v ``(B, h, N, d)`` and logits to add ``(B, h, N, N)``."""
Form = Callable[[Tensor, Tensor, Tensor, float, Offsets], Tensor]
"""A kernel of `attngraft.attention`, to be traced."""

TOLERANCE, DETECTOR_TOLERANCE = 1e-4, 1e-2
"""Of the largest magnitude that PyTorch gives in a channel; an untrained detector enlarges rounding."""
MAPS = ((1, 128, 40, 40), (1, 256, 20, 20), (1, 64, 80, 80))
"""What P4, P5 and P3 of yolo11n are at 640 pixels."""
OPEN = ((1.0, 1.0), (0.6, 1.0), (1.25, 0.75), (0.1, 0.15))
"""Rows and columns by the example's, to try a file of open sizes at; the last has fewer rows than there are slices."""
BASE, GRAFT, SIDE = "yolo11n.yaml", "yolo11n.yaml+mhsa@P4", 640


# -- forms -------------------------------------------------------------------------------------------------------------


class _Operator(torch.autograd.Function):
    """Fused attention, exported as an operator of the domain ``placeholder``."""

    @staticmethod
    def forward(
        ctx: Any, name: str, heads: int, widths: tuple[int, int], q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None
    ) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)

    @staticmethod
    def symbolic(g: Any, name: str, heads: int, widths: tuple[int, int], q: Any, k: Any, v: Any, bias: Any) -> Any:
        if name == "Attention":
            given = (q, k, v) if bias is None else (q, k, v, bias)
            return g.op("placeholder::Attention", *given, scale_f=1.0).setType(v.type())

        def shape(*sizes: int) -> Any:
            return g.op("Constant", value_t=torch.tensor(sizes))  # 0 keeps the size that is there

        def joined(t: Any, width: int) -> Any:
            return g.op("Reshape", g.op("Transpose", t, perm_i=[0, 2, 1, 3]), shape(0, -1, heads * width))

        inputs = [joined(q, widths[0]), joined(k, widths[0]), joined(v, widths[1])]
        if bias is not None:
            none = g.op("prim::Constant")
            none.setType(torch._C.OptionalType.ofTensor())
            inputs += [none, none, bias]
        out = g.op("placeholder::MultiHeadAttention", *inputs, num_heads_i=heads, scale_f=1.0)
        split = g.op("Reshape", out, shape(0, -1, heads, widths[1]))
        return g.op("Transpose", split, perm_i=[0, 2, 1, 3]).setType(v.type())


def _operator(name: str) -> Mix:
    def mix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        heads, widths = _example(q.shape[1]), (_example(q.shape[3]), _example(v.shape[3]))
        out: Tensor = _Operator.apply(name, heads, widths, q, k, v, bias)
        return out

    return mix


def _stock(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)


def _masked(mix: Mix, slices: int, q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets) -> Tensor:
    """Give the position logits as an added mask, for some slices of the queries."""
    H, W = offsets.height, offsets.width
    q, k, v = (q * scale).transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3)
    to_row, to_column = axis_logits(q, offsets)
    slices, out = min(slices, _example(H)), []  # an empty one of the example would end PyTorch's exporter with SIGFPE
    for a, b in pairwise([0, *(H * i // slices for i in range(1, slices)), H]):
        bias = to_row[:, :, a:b].unsqueeze(5) + to_column[:, :, a:b].unsqueeze(4)
        out.append(mix(q[:, :, a * W : b * W], k, v, bias.reshape(*q.shape[:2], (b - a) * W, H * W)))
    return torch.cat(out, 2).transpose(2, 3)


def _longer(mix: Mix, q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets) -> Tensor:
    """Give the position logits as more channels, as the kernel ``augmented`` does; no mask."""
    H, W = offsets.height, offsets.width
    q, k, v = (q * scale).transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3)
    B, h, N, _ = q.shape
    q = torch.cat((q, torch.cat(axis_logits(q, offsets), 4).reshape(B, h, N, H + W)), 3)
    rows, columns = torch.eye(H)[:, None].expand(H, W, H), torch.eye(W).expand(H, W, W)
    one_hot = torch.cat((rows, columns), 2).reshape(N, H + W).expand(B, h, N, H + W)
    return mix(q, torch.cat((k, one_hot), 3), v, None).transpose(2, 3)


def _heads(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets) -> Tensor:
    q, v = q.transpose(2, 3) * scale, v.transpose(2, 3)
    by_axis = axis_logits(q, offsets)
    pieces = [slice(i, i + 1) for i in range(_example(q.shape[1]))]
    out = [_mixed(q[:, i], k[:, i], v[:, i], (by_axis[0][:, i], by_axis[1][:, i])) for i in pieces]
    return torch.cat(out, 1).transpose(2, 3)


def _loop(q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets) -> Tensor:
    q, v = q.transpose(2, 3) * scale, v.transpose(2, 3)
    to_row, to_column = axis_logits(q, offsets)
    out: Tensor = _each_row()(q, k, v, to_row, to_column)
    return out.transpose(2, 3)


def _each_row() -> Callable[..., Tensor]:
    """Compile a loop that a graph keeps, over one row of queries at a time."""

    def each(q: Tensor, k: Tensor, v: Tensor, to_row: Tensor, to_column: Tensor) -> Tensor:
        out = []
        B, h, H, W = q.size(0), q.size(1), to_row.size(2), to_row.size(3)
        for y in range(H):
            logits = (q[:, :, y * W : y * W + W] @ k).reshape(B, h, W, H, W)
            logits = logits + to_row[:, :, y].unsqueeze(4) + to_column[:, :, y].unsqueeze(3)
            out.append(logits.reshape(B, h, W, H * W).softmax(3) @ v)
        return torch.cat(out, 2)

    scripted: Callable[..., Tensor] = torch.jit.script(each)  # type: ignore[no-untyped-call]
    return scripted


attention, contrib = _operator("Attention"), _operator("MultiHeadAttention")
WHOLE, SLICED = "all queries at once (written before)", "slices of queries (what export writes)"
PLAIN: dict[str, Any] = {
    WHOLE: factored,
    SLICED: sliced,
    "one head at a time": _heads,
    "a loop over rows of queries": _loop,
    "scaled_dot_product_attention, positions as mask": partial(_masked, _stock, 1),
    "scaled_dot_product_attention, positions as mask, 10 slices": partial(_masked, _stock, 10),
    "scaled_dot_product_attention, positions as channels": partial(_longer, _stock),
}
"""Forms of operators that every opset and runtime has."""
FORMS: dict[str, dict[str, Any]] = {
    "onnxruntime": {
        **PLAIN,
        "Attention (opset 23), positions as mask": partial(_masked, attention, 1),
        "Attention (opset 23), positions as mask, 10 slices": partial(_masked, attention, 10),
        "Attention (opset 23), positions as channels": partial(_longer, attention),
        "contrib MultiHeadAttention, positions as bias": partial(_masked, contrib, 1),
        "contrib MultiHeadAttention, positions as bias, 10 slices": partial(_masked, contrib, 10),
        "contrib MultiHeadAttention, positions as channels": partial(_longer, contrib),
    },
    "openvino": PLAIN,
}
"""What each runtime is given; the first is what the others are compared with."""
SHORT = (
    WHOLE,
    SLICED,
    "a loop over rows of queries",
    "scaled_dot_product_attention, positions as mask, 10 slices",
    "Attention (opset 23), positions as mask, 10 slices",
    "contrib MultiHeadAttention, positions as bias, 10 slices",
)
"""What is timed on other maps than the first of `MAPS`, and in a detector."""
DOMAINS = {"Attention": ("", 23), "MultiHeadAttention": ("com.microsoft", 1)}


# -- files -------------------------------------------------------------------------------------------------------------


def _save(runtime: str, form: Form, module: nn.Module, x: Tensor, file: Path, *, dynamic: bool = False) -> Path:
    """Export a module whose attention takes a form, and return the file."""
    with patch.dict(KERNELS, sliced=form):
        if runtime == "openvino":
            return export.to_openvino(module, x, file.with_suffix(".xml"), dynamic=dynamic, overwrite=True).path
        file = export.to_onnx(module, x, file.with_suffix(".onnx"), dynamic=dynamic, overwrite=True).path
    model = onnx.load(file)
    for node in model.graph.node:
        if node.domain == "placeholder":
            node.domain, opset = DOMAINS[node.op_type]
            kept = [o for o in model.opset_import if o.domain not in ("placeholder", node.domain)]
            del model.opset_import[:]
            model.opset_import.extend([*kept, onnx.helper.make_opsetid(node.domain, opset)])
    onnx.save(model, file)
    return file


def _peak(file: Path, x: Tensor) -> int:
    """Return what a first inference adds to the resident memory of a fresh process, in bytes."""
    words = [sys.executable, str(Path(__file__).with_name("_peak.py")), str(file), *map(str, x.shape)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1])


def _error(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the largest deviation, each channel's by its own largest magnitude: scores are small beside boxes."""
    if found.shape != wanted.shape:
        raise ValueError(f"gives {found.shape} instead of {wanted.shape}")
    rest = tuple(axis for axis in range(wanted.ndim) if axis != 1)
    return float((abs(found - wanted).max(rest) / abs(wanted).max(rest)).max())


def _first(module: nn.Module, x: Tensor) -> NDArray[Any]:
    with torch.no_grad():
        return tensors(module(x))[0].numpy()


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:160]


# -- cases -------------------------------------------------------------------------------------------------------------


def _forms(runtime: str, *, every: bool) -> dict[str, Form]:
    return {name: form for name, form in FORMS[runtime].items() if every or name in SHORT}


def _layer(runtime: str, shape: tuple[int, ...], rounds: int, folder: Path, *, every: bool) -> dict[str, Any]:
    """Compare forms of one layer on a runtime, and with every one of them try open sizes."""
    torch.manual_seed(0)
    mhsa = MHSA(shape[1], heads=4, size=shape[2:]).eval()
    nn.init.normal_(mhsa.qkv.weight, std=shape[1] ** -0.5)
    x = torch.randn(shape)
    calls: dict[str, Callable[[], object]] = {}
    details: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    for number, (name, form) in enumerate(_forms(runtime, every=every).items()):
        try:
            file = _save(runtime, form, mhsa, x, folder / f"{number}")
            calls[name], details[name] = _checked(file, mhsa, x)
        except Exception as error:  # noqa: BLE001 (runtimes have errors of their own; the table publishes them)
            refused[name] = _reason(error)
            continue
        if every:
            details[name]["open"] = _open_sizes(runtime, form, mhsa, x, folder / f"{number}-open")
    calls["PyTorch"] = partial(_first, mhsa, x)
    return _compared({"what": "layer", "runtime": runtime, "shape": shape}, calls, details, refused, rounds)


def _checked(
    file: Path, module: nn.Module, x: Tensor, tolerance: float = TOLERANCE
) -> tuple[Callable[[], object], dict[str, Any]]:
    """Return a call of a file that agrees with its module, and what is known of it before it is timed."""
    run = partial(export.load(file), x.numpy())
    error = _error(run()[0], _first(module, x))
    if not error <= tolerance:
        raise ValueError(f"other numbers than PyTorch's, by {error:.1e}")
    return run, {"peak_bytes": _peak(file, x), "error": error}


def _open_sizes(runtime: str, form: Form, mhsa: MHSA, x: Tensor, file: Path) -> str:
    """Say whether a file of open sizes gives the module's numbers at all of them; an empty text if so."""
    try:
        run = export.load(_save(runtime, form, mhsa, x, file, dynamic=True))
        for rows, columns in OPEN:
            size = max(1, round(x.shape[2] * rows)), max(1, round(x.shape[3] * columns))
            other = torch.randn(1, x.shape[1], *size)
            error = _error(run(other)[0], _first(mhsa, other))
            if not error <= TOLERANCE:
                return f"off by {error:.1e} at {size[0]} x {size[1]}"
    except Exception as error:  # noqa: BLE001
        return _reason(error)
    return ""


def _detector(runtime: str, side: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Compare a detector with MHSA, in some forms, with the stock one; each network as it is deployed."""
    stock, grafted = map(_awake, (BASE, GRAFT))
    x = torch.rand(1, 3, side, side)
    calls: dict[str, Callable[[], object]] = {BASE: partial(_first, stock, x)}
    details: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    if runtime == "eager":
        calls[GRAFT] = partial(_first, grafted, x)
    else:
        file = _save(runtime, sliced, stock, x, folder / "stock")
        calls[BASE], details[BASE] = _checked(file, stock, x, DETECTOR_TOLERANCE)
        for number, (name, form) in enumerate(_forms(runtime, every=False).items()):
            try:
                file = _save(runtime, form, grafted, x, folder / f"grafted-{number}")
                calls[f"{GRAFT}, {name}"], details[f"{GRAFT}, {name}"] = _checked(file, grafted, x, DETECTOR_TOLERANCE)
            except Exception as error:  # noqa: BLE001
                refused[f"{GRAFT}, {name}"] = _reason(error)
    return _compared({"what": "detector", "runtime": runtime, "shape": x.shape}, calls, details, refused, rounds)


def _awake(recipe: str) -> nn.Module:
    """Open a detector as it is deployed, untrained, but so that what its attention does shows in boxes and scores.

    A graft starts as the identity, its logits near zero, and an untrained head gives the same whatever it sees.
    """
    torch.manual_seed(0)
    network = DetectorSubject(recipe).perturbed()
    for module in network.modules():
        if isinstance(module, MHSA):
            nn.init.normal_(module.qkv.weight, std=2 * module.channels**-0.5)
        if isinstance(getattr(module, "gamma", None), nn.Parameter):
            nn.init.ones_(module.gamma)
    return deployed(network).eval()


def _compared(
    case: dict[str, Any],
    calls: dict[str, Callable[[], object]],
    details: dict[str, dict[str, Any]],
    refused: dict[str, str],
    rounds: int,
) -> dict[str, Any]:
    """Time calls in interleaved rounds by two clocks: the wall's, and the processor's, which other work stops less."""
    spent: dict[str, list[float]] = {name: [] for name in calls}

    def clocked(name: str) -> object:
        start = time.process_time()
        kept = calls[name]()
        spent[name].append((time.process_time() - start) * 1e3)
        return kept

    print(f"\n{case['what']}, {case['runtime']}, {tuple(case['shape'])}")
    timings = latency.compare({name: partial(clocked, name) for name in calls}, rounds=rounds, warmup=1)
    base = np.array(spent[timings[0].name][-rounds:])
    rows = []
    for t in timings:
        own = np.array(spent[t.name][-rounds:])
        low, high = latency.bootstrap_median(own / base, seed=0)
        ratio = {"p50_ms": float(np.median(own)), "ratio": float(np.median(own / base))}
        row = {**asdict(t), "processor": {**ratio, "ratio_low": low, "ratio_high": high}, **details.get(t.name, {})}
        rows.append(row)
        print(_line(row))
    print("".join(f"{name}: {reason}\n" for name, reason in refused.items()), end="", flush=True)
    return {**case, "rows": rows, "refused": refused}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small map and few rounds, nothing written")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    maps, side, rounds = (((1, 32, 8, 8),), 64, 3) if options.quick else (MAPS, SIDE, options.rounds)
    few = {MAPS[-1]: max(3, rounds // 3)}  # of the map that takes the longest
    cases: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        todo = [partial(_layer, r, m, few.get(m, rounds), Path(name), every=m == maps[0]) for m in maps for r in FORMS]
        todo += [partial(_detector, runtime, side, rounds, Path(name)) for runtime in ("eager", *FORMS)]
        for case in todo:
            cases.append(case())
            if not options.quick:
                _write(cases)


def _write(cases: list[dict[str, Any]]) -> None:
    found = environment()
    file = result_file("deployed", found, RESULTS)
    versions = {name: version(name) for name in ("torch", "onnx", "onnxruntime", "openvino", "ultralytics")}
    record = {
        "schema": "attngraft.deployed/2",
        "script": "deployed",
        "commit": commit(),
        "environment": asdict(found),
        "versions": versions,
    }
    file.write_text(json.dumps({**record, "cases": cases}, indent=1, default=dict) + "\n", encoding="utf-8")
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    text = f"# deployed on {found.device}, one thread\n\n{found.date}, commit {record['commit']}, {named}.\n"
    for case in cases:
        text += f"\n## {case['what']}, {case['runtime']}, {' x '.join(map(str, case['shape']))}\n\n"
        text += "| form | processor ms | times the first row's | on the wall clock | peak, MiB | error | any size |\n"
        text += "|---|--:|--:|--:|--:|--:|---|\n"
        text += "".join(f"{_line(row)}\n" for row in case["rows"])
        text += "".join(f"| {name} | {reason} | | | | | |\n" for name, reason in case["refused"].items())
    file.with_suffix(".md").write_text(text, encoding="utf-8")


def _line(row: dict[str, Any]) -> str:
    clocks = row["processor"], row
    ratios = (f"{clock['ratio']:.2f} ({clock['ratio_low']:.2f}-{clock['ratio_high']:.2f})" for clock in clocks)
    known = (f"{row['peak_bytes'] / 2**20:.1f}", f"{row['error']:.0e}") if "error" in row else ("", "")
    sizes = (row["open"] or "yes") if "open" in row else ""
    cells = (row["name"], f"{clocks[0]['p50_ms']:.1f}", *ratios, *known, sizes)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
