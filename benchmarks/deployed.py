"""Forms of MHSA's attention that ONNX Runtime can be given: time and peak memory of one layer.

    python benchmarks/deployed.py            about a minute of one free core
    python benchmarks/deployed.py --quick    a small map and few rounds, nothing written

The first form is the one that `attngraft.export` writes. Forms must agree with PyTorch before they are
timed. Some need what the tracing exporter cannot write; they are written under a domain of ours and renamed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from _timing import RESULTS, commit, result_file
from torch import Tensor, nn

from attngraft.attention import MHSA
from attngraft.attention._kernels import Offsets, _axis_logits, _factored
from attngraft.measure import environment, latency

Mix = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], Tensor]
"""Fused attention of scaled queries: q, k, v ``(B, h, N, d)`` and logits to add ``(B, h, N, N)``."""
TOLERANCE = 1e-4


class _Operator(torch.autograd.Function):
    """Fused attention, exported as an operator of the domain ``placeholder``."""

    @staticmethod
    def forward(ctx: Any, name: str, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)

    @staticmethod
    def symbolic(g: Any, name: str, q: Any, k: Any, v: Any, bias: Any) -> Any:
        if name == "Attention":
            inputs = (q, k, v) if bias is None else (q, k, v, bias)
            return g.op("placeholder::Attention", *inputs, scale_f=1.0).setType(v.type())
        B, h, N, d = q.type().sizes()
        e = v.type().sizes()[3]

        def joined(t: Any, width: int) -> Any:
            shape = g.op("Constant", value_t=torch.tensor([B, -1, h * width]))
            return g.op("Reshape", g.op("Transpose", t, perm_i=[0, 2, 1, 3]), shape)

        inputs = [joined(q, d), joined(k, d), joined(v, e)]
        if bias is not None:
            none = g.op("prim::Constant")
            none.setType(torch._C.OptionalType.ofTensor())
            inputs += [none, none, bias]
        out = g.op("placeholder::MultiHeadAttention", *inputs, num_heads_i=h, scale_f=1.0)
        split = g.op("Constant", value_t=torch.tensor([B, N, h, e]))
        return g.op("Transpose", g.op("Reshape", out, split), perm_i=[0, 2, 1, 3])


def _operator(name: str) -> Mix:
    return lambda q, k, v, bias: _Operator.apply(name, q, k, v, bias)


def _masked(mix: Mix, rows: int, q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets) -> Tensor:
    """Give the position logits as an added mask, for some rows of queries at a time; 0 takes all."""
    H, W = offsets.height, offsets.width
    q, k, v = (q * scale).transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3)
    to_row, to_column = _axis_logits(q, offsets)
    step, out = rows or H, []
    for y in range(0, H, step):
        bias = to_row[:, :, y : y + step].unsqueeze(5) + to_column[:, :, y : y + step].unsqueeze(4)
        cells = slice(y * W, (y + step) * W)
        out.append(mix(q[:, :, cells], k, v, bias.flatten(4, 5).flatten(2, 3)))
    return torch.cat(out, 2).transpose(2, 3)


def _longer(mix: Mix, q: Tensor, k: Tensor, v: Tensor, scale: float, offsets: Offsets) -> Tensor:
    """Give the position logits as more channels, as the kernel ``augmented`` does; no mask."""
    H, W = offsets.height, offsets.width
    q, k, v = (q * scale).transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3)
    B, h, N, _ = q.shape
    q = torch.cat((q, torch.cat(_axis_logits(q, offsets), 4).reshape(B, h, N, H + W)), 3)
    rows, columns = torch.eye(H)[:, None].expand(H, W, H), torch.eye(W).expand(H, W, W)
    one_hot = torch.cat((rows, columns), 2).reshape(N, H + W).expand(B, h, N, H + W)
    return mix(q, torch.cat((k, one_hot), 3), v, None).transpose(2, 3)


class _Layer(nn.Module):
    def __init__(self, mhsa: MHSA, kernel: Callable[..., Tensor]) -> None:
        super().__init__()
        self.mhsa, self.kernel = mhsa, kernel

    def forward(self, x: Tensor) -> Tensor:
        q, k, v, offsets = self.mhsa._vectors(x)
        return self.kernel(q, k, v, self.mhsa._factor(), offsets).reshape(x.shape)


attention, contrib = _operator("Attention"), _operator("MultiHeadAttention")
FORMS: dict[str, Callable[..., Tensor]] = {
    "factored (what export writes)": _factored,
    "Attention (opset 23), positions as mask": partial(_masked, attention, 0),
    "Attention (opset 23), positions as channels": partial(_longer, attention),
    "contrib MultiHeadAttention, positions as bias": partial(_masked, contrib, 0),
    "contrib MultiHeadAttention, positions as bias, 4 rows at a time": partial(_masked, contrib, 4),
    "contrib MultiHeadAttention, positions as channels": partial(_longer, contrib),
}
DOMAINS = {"Attention": ("", 23), "MultiHeadAttention": ("com.microsoft", 1)}


def _save(layer: nn.Module, x: Tensor, file: Path) -> None:
    torch.onnx.export(
        layer, (x,), str(file), opset_version=18, dynamo=False, custom_opsets={"placeholder": 1}, input_names=["x"]
    )
    model = onnx.load(file)
    for node in model.graph.node:
        if node.domain == "placeholder":
            node.domain, opset = DOMAINS[node.op_type]
            kept = [o for o in model.opset_import if o.domain not in ("placeholder", node.domain)]
            del model.opset_import[:]
            model.opset_import.extend([*kept, onnx.helper.make_opsetid(node.domain, opset)])
    onnx.save(model, file)


def _load(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def _resident(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def _peak(file: Path, shape: tuple[int, ...]) -> int:
    """Return what a first inference adds to the resident memory of a fresh process, in bytes."""
    words = [sys.executable, __file__, "--peak", str(file), *map(str, shape)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small map and few rounds, nothing written")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)  # what the script calls itself with
    options = parser.parse_args()
    if options.peak:
        file, *shape = options.peak
        run, x = _load(Path(file)), np.ones(tuple(map(int, shape)), np.float32)
        before = _resident("VmRSS")
        run(x)
        print(_resident("VmHWM") - before)
        return
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = (1, 32, 8, 8) if options.quick else (1, 128, 40, 40)
    case = _case(shape, 3 if options.quick else options.rounds)
    if not options.quick:
        _write([case])


def _case(shape: tuple[int, ...], rounds: int) -> dict[str, Any]:
    mhsa = MHSA(shape[1], heads=4, size=shape[2:]).eval()
    nn.init.normal_(mhsa.qkv.weight, std=shape[1] ** -0.5)
    x = torch.randn(shape)
    calls: dict[str, Callable[[], object]] = {}
    peaks, errors, refused = {}, {}, {}
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        wanted = mhsa(x).numpy()
        for number, (name, kernel) in enumerate(FORMS.items()):
            file = Path(folder, f"{number}.onnx")
            _save(_Layer(mhsa, kernel).eval(), x, file)
            try:
                run = _load(file)
                errors[name] = float(abs(run(x.numpy()) - wanted).max())
            except Exception as error:  # noqa: BLE001 (the runtime has errors of its own; the table publishes them)
                refused[name] = str(error).splitlines()[0]
                continue
            if not errors[name] <= TOLERANCE:
                refused[name] = f"other numbers than PyTorch's, by {errors[name]:.1e}"
                continue
            peaks[name], calls[name] = _peak(file, shape), partial(run, x.numpy())
        rows = []
        for t in latency.compare(calls, rounds=rounds, warmup=2):
            rows.append({**asdict(t), "peak_bytes": peaks[t.name], "error": errors[t.name]})
            print(f"{t.name:66} {t.ratio:.2f} ({t.ratio_low:.2f}-{t.ratio_high:.2f}) {peaks[t.name] / 2**20:7.1f}")
    for name, reason in refused.items():
        print(f"{name:66} {reason}")
    return {"runtime": "onnxruntime", "shape": shape, "rows": rows, "refused": refused}


def _write(cases: list[dict[str, Any]]) -> None:
    found = environment()
    file = result_file("deployed", found, RESULTS)
    versions = {name: version(name) for name in ("torch", "onnx", "onnxruntime")}
    record = {
        "schema": "attngraft.deployed/1",
        "script": "deployed",
        "commit": commit(),
        "environment": asdict(found),
        "versions": versions,
    }
    file.write_text(json.dumps({**record, "cases": cases}, indent=1, default=dict) + "\n", encoding="utf-8")
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    text = f"# deployed on {found.device}, one thread\n\n{found.date}, commit {record['commit']}, {named}.\n"
    for case in cases:
        text += f"\n## {case['runtime']}, {' x '.join(map(str, case['shape']))}, 4 heads\n\n"
        text += "| form | ms | times the first form's time | peak, MiB | largest error |\n|---|--:|--:|--:|--:|\n"
        for row in case["rows"]:
            ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"
            text += f"| {row['name']} | {row['p50_ms']:.1f} | {ratio} | {row['peak_bytes'] / 2**20:.1f} "
            text += f"| {row['error']:.0e} |\n"
        text += "".join(f"| {name} | {reason} | | | |\n" for name, reason in case["refused"].items())
    file.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
