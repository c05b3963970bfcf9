"""What the processor is and can do, as far as it can be read in a moment and without another program."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux describes its processors; no other system has it."""


class Processor(NamedTuple):
    """What PyTorch computes on where the device is the CPU.

    Attributes:
        maker: ``"GenuineIntel"``, ``"AuthenticAMD"``, or nothing where the system does not say: off Linux and off x86.
        vectors: The widest instructions that PyTorch uses, ``"AVX512"``, ``"AVX2"``, ``"DEFAULT"`` or another name.
        amx: Whether it multiplies tiles of bfloat16 (Intel's AMX).
    """

    maker: str
    vectors: str
    amx: bool


@cache
def processor() -> Processor:
    """Describe the processor; the same for as long as the process lives."""
    # PyTorch has no public question that 2.6 knows too; where it has none at all, the answer is no.
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return Processor(
        described("vendor_id"), torch.backends.cpu.get_cpu_capability(), has_amx is not None and bool(has_amx())
    )


@cache
def described(key: str) -> str:
    """Return what the system says of the first core under a key, or nothing where it says nothing.

    Args:
        key: Such as ``"model name"``.
    """
    try:
        # Line by line: the system takes its time to describe hundreds of cores, and the first says it.
        with CPUINFO.open(encoding="utf-8", errors="replace") as lines:
            pairs = (line.partition(":") for line in lines)
            return next((value.strip() for name, _, value in pairs if name.strip() == key), "")
    except OSError:
        return ""
