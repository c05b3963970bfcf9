"""The device of the tests that are marked ``cuda``."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

DEVICE = "ATTNGRAFT_TEST_DEVICE"
"""Environment variable that lets these tests run elsewhere: ``cpu`` keeps them from rotting where no GPU is."""


@pytest.fixture
def device() -> Iterator[torch.device]:
    """Return the accelerator, with products in full single precision, or skip."""
    named = os.environ.get(DEVICE)
    if not named and not torch.cuda.is_available():
        pytest.skip(f"needs a CUDA device, and PyTorch finds none; {DEVICE}=cpu runs it on the CPU")
    torch.compiler.reset()  # PyTorch compiles a function for eight sizes at most
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield torch.device(named or "cuda")
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
