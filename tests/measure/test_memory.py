"""Peaks against sums done by hand, and against what the process itself took."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor, nn

from attngraft.measure import memory

MIB = 2**20


class Chain(nn.Module):
    """Allocate 1, 3 and 2 MiB; at most 5 live together, as the first is freed before the third comes."""

    def forward(self, x: Tensor) -> Tensor:
        first = x.expand(MIB // 4).clone()
        second = first.repeat(3)
        del first
        return second[: MIB // 2].clone()


class Squares(nn.Module):
    """Keep each of three products for the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x * x
        return x


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


class Written(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(-1, -2)).softmax(-1) @ x


def test_peak_is_the_most_that_lives_at_once() -> None:
    assert memory.peak(Chain(), torch.ones(1)) == 5 * MIB


def test_nothing_allocated_is_nothing() -> None:
    assert memory.peak(nn.Identity(), torch.ones(MIB)) == 0


def test_work_space_inside_an_operator_is_seen() -> None:
    """The N x N matrix of attention by plain matrix products is not returned by the operator."""
    q = torch.randn(1, 1, 512, 8)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert memory.peak(Attention(), q) >= 2 * 512 * 512 * 4


def test_training_keeps_what_the_backward_pass_needs() -> None:
    x = torch.ones(MIB // 4, requires_grad=True)  # 1 MiB
    assert memory.peak(Squares(), x) == 2 * MIB
    assert memory.peak(Squares(), x, train=True) >= 4 * MIB


def test_weight_gradients_are_not_activations() -> None:
    module = nn.Linear(1024, 1024, bias=False)  # 4 MiB
    peak = memory.peak(module, torch.randn(2, 1024), train=True)
    assert 4 * MIB <= peak < 4.5 * MIB  # one new gradient on its way into the kept one


ALONE = """
from pathlib import Path
import torch
from attngraft.measure import memory
from tests.measure.test_memory import Written

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

module, x = Written(), torch.randn(1, 3500, 16)
module(x[:, :10])
Path("/proc/self/clear_refs").write_text("5")  # start the high-water mark anew
before = status("VmRSS")
module(x)
print(status("VmHWM") - before, memory.peak(module, x))
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="reads what only Linux tells")
def test_peak_is_what_the_process_takes() -> None:
    """In a process of its own: one that has freed memory before takes less anew."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=root, capture_output=True, text=True, check=True)
    taken, peak = map(int, done.stdout.split())
    assert peak == pytest.approx(taken, rel=0.05)
    assert done.stderr == ""


def test_other_devices_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="measures on cpu and cuda, got an example on meta"):
        memory.peak(nn.Identity(), torch.ones(1, device="meta"))


def test_free_memory_is_below_all_memory() -> None:
    assert 0 < memory.free() < psutil.virtual_memory().total


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"memory.max": "3000\n", "memory.current": "2500\n", "memory.stat": "anon 1\nfile 400\n"}.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    assert memory.free() == 3000 - 2500 + 400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free() > 3000


def test_a_limit_of_the_process_counts() -> None:
    """The limit is set in a process of its own, since it stays."""
    script = """
import resource, psutil
from attngraft.measure import memory
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + (64 << 20), hard))
print(memory.free())
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 32 << 20 < int(found.stdout) <= 64 << 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_peak_is_the_allocators() -> None:
    assert memory.peak(Squares(), torch.ones(MIB // 4, device="cuda")) == 2 * MIB
