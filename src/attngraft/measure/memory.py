"""How much memory a call needs beyond what was there before it.

On the CPU every allocation of PyTorch's allocator is followed by `torch.profiler`, which also sees the work space
inside an operator and inside compiled code; what oneDNN and the BLAS take for themselves it does not see. Against the
peak resident set of a process it was within 3 % from 100 MiB up, where counting the tensors that operators return was
up to 12 % short. On CUDA it is the allocator's own peak.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from attngraft._core.calls import Example, arguments, forward, mode, training_step, untouched
from attngraft._core.errors import OptionError

CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where Linux writes the limits of the container that a process runs in."""
CPU = 0
"""How the profiler writes the device type of an allocation on the CPU."""


def peak(module: nn.Module, example: Example, *, train: bool = False) -> int:
    """Measure the peak of the memory that a call allocates, in bytes.

    Weights, their gradients and the input were there before and are not in it; the output is. The module runs twice,
    the first time to warm up, and is left as it was.

    Args:
        module: What to measure, on the device of the example.
        example: Its input.
        train: Whether to measure a training step (forward and backward) instead of an inference.

    Returns:
        Bytes.

    Raises:
        OptionError: If the example is on a device other than a CPU or a CUDA one.
    """
    device = arguments(example)[0].device
    if device.type not in _PEAKS:
        raise OptionError(
            f"memory.peak measures on {' and '.join(_PEAKS)}, got an example on {device}; move it and the module"
        )
    call = (training_step if train else forward)(module, example)
    with mode(module, train=train), untouched(module):
        call()
        return _PEAKS[device.type](call, device)


def free(device: torch.device | str = "cpu") -> int:
    """Return the bytes that can still be allocated on a device, on the CPU without swapping."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    available = int(psutil.virtual_memory().available)
    return min([available, *(limit for limit in (_control_group(), _address_space()) if limit is not None)])


def _cpu_peak(call: Callable[[], object], _: torch.device) -> int:
    os.environ["KINETO_LOG_LEVEL"] = "6"  # the profiler greets on stderr otherwise; Ultralytics' 5 is not enough
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = call()  # bound, so that an output is freed after the profile and not inside it
    del kept
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [(event["ts"], event["args"]) for event in events if event.get("name") == "[memory]"]
    now = highest = 0
    for _, change in sorted(changes, key=lambda change: float(change[0])):
        if change["Device Type"] == CPU:
            now += change["Bytes"]
            highest = max(highest, now)
    return highest


def _cuda_peak(call: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


_PEAKS = {"cpu": _cpu_peak, "cuda": _cuda_peak}


def _address_space() -> int | None:
    """Read what is left under a limit of the process itself (``ulimit -v``)."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else max(0, limit - psutil.Process().memory_info().vms)


def _control_group() -> int | None:
    """Read what is left under a container's limit, which psutil does not know, counting cached files as free."""
    names = ("memory.max", "memory.current", "memory.stat")
    try:
        limit, used, statistics = ((CONTROL_GROUP / name).read_text(encoding="ascii") for name in names)
    except OSError:
        return None
    cached = re.search(r"^file (\d+)", statistics, re.MULTILINE)
    if limit.strip() == "max" or cached is None:
        return None
    return int(limit) - int(used) + int(cached.group(1))
