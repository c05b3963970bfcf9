"""What training on an accelerator needs: mixed precision, torch.compile, repeatable steps and several processes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attngraft.attention import MHSA, mechanism

pytestmark = pytest.mark.cuda


def network() -> nn.Module:
    parts = [nn.Conv2d(3, 32, 3, stride=2, padding=1), mechanism("ema").cls(32), nn.ReLU(), MHSA(32, size=8)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4))


def data(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.randn(4, 3, 16, 16, device=device), torch.arange(4, device=device)


def gradients(net: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(nn.functional.cross_entropy(net(images), labels), list(net.parameters())))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_steps_in_mixed_precision_lower_the_loss(dtype: torch.dtype, device: torch.device) -> None:
    net, (images, labels) = network().to(device), data(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16, init_scale=256.0)
    losses = []
    for _ in range(8):
        with torch.autocast(device.type, dtype=dtype):
            loss = nn.functional.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(parameter.isfinite().all() for parameter in net.parameters())


def test_compiled_gives_the_same_numbers(device: torch.device) -> None:
    net, (images, labels) = network().to(device), data(device)
    expected = gradients(net, images, labels)
    # Building C++ takes half a minute; on the CPU the graph alone is tried.
    compiled = torch.compile(net, backend="inductor" if device.type == "cuda" else "aot_eager")
    for found, right in zip(gradients(compiled, images, labels), expected, strict=True):
        torch.testing.assert_close(found, right, atol=1e-4, rtol=1e-3)


@pytest.mark.filterwarnings("ignore:.*deterministic.*")
def test_a_step_repeats_itself(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    net, (images, labels) = network().to(device), data(device)
    torch.use_deterministic_algorithms(True, warn_only=True)  # as Ultralytics does; equal is what counts
    try:
        first, second = (gradients(net, images, labels) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_distributed_on_one_device_gives_the_same_numbers(device: torch.device, tmp_path: Path) -> None:
    net, (images, labels) = network().to(device), data(device)
    expected = gradients(copy.deepcopy(net), images, labels)
    backend = "nccl" if device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(net, device_ids=[0] if device.type == "cuda" else None)
        nn.functional.cross_entropy(wrapped(images), labels).backward()
    finally:
        torch.distributed.destroy_process_group()
    for parameter, right in zip(net.parameters(), expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, right, atol=1e-6, rtol=1e-5)
