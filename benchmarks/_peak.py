"""What a first inference of an exported file adds to the resident memory of this process: ``_peak.py FILE SHAPE...``.

Without PyTorch, whose import takes longer than all else; settings are those of `attngraft.export`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np


def opened(file: str) -> Callable[[np.ndarray], object]:
    """Open a file on one thread."""
    if file.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda x: session.run(None, {name: x})
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    return lambda x: compiled([x])


def resident(field: str) -> int:
    """Return a size of this process in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    run, x = opened(sys.argv[1]), np.ones(tuple(map(int, sys.argv[2:])), np.float32)
    before = resident("VmRSS")
    run(x)
    print(resident("VmHWM") - before)
