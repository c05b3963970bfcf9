"""Gradients of one image against the image twice: what differs, what is noise, and whose fault it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attngraft.doctor.one_image import compare


class Tokens(nn.Module):
    def __init__(self, plain: bool) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1).flatten(1, 2) if self.plain else x.flatten(2).transpose(1, 2)
        mixed = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        return mixed.transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize(("plain", "status"), [(True, "pass"), (False, "warn")])
def test_the_layout_of_tokens_alone_makes_the_difference(plain: bool, status: str) -> None:
    """Right arithmetic in both: the second is PyTorch's fault (2.13 to 2.14.1), and says so with the norm's name."""
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), Tokens(plain))
    outcome = compare(network, torch.randn(1, 8, 5, 3), batch=2)
    if not plain and outcome.status == "pass":
        pytest.skip("this PyTorch reads the layout")
    assert outcome.status == status, outcome
    assert plain or "misreads the layout at 1;" in outcome.detail
    assert all(p.grad is None for p in network.parameters()), "the network is left as it was"
    assert all(p.dtype is torch.float32 for p in network.parameters())


def test_dropout_and_statistics_of_batches_are_no_difference() -> None:
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Dropout2d(0.5), nn.AdaptiveAvgPool2d(1))
    assert compare(network, torch.randn(1, 8, 5, 3), batch=1).status == "pass"


def test_an_activation_in_place_hides_no_diagnosis() -> None:
    """Checkpoints have them: autograd's error stood in the place of the warning."""
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.SiLU(inplace=True), Tokens(plain=False))
    outcome = compare(network, torch.randn(1, 8, 5, 3), batch=2)
    if outcome.status == "pass":
        pytest.skip("this PyTorch reads the layout")
    assert (outcome.status, "misreads the layout at 1;" in outcome.detail) == ("warn", True), outcome
    assert network[2].inplace


def test_a_squeeze_is_found() -> None:
    class Squeezes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.mean((2, 3)).squeeze().softmax(0).reshape(-1, x.shape[1], 1, 1)

    network = nn.Sequential(nn.Conv2d(8, 8, 1), Squeezes())
    outcome = compare(network, torch.randn(1, 8, 5, 3), batch=2)
    assert (outcome.status, "squeeze" in outcome.remedy) == ("fail", True)


def test_the_report_to_pytorch_in_the_docs_shows_the_fault(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs/doctor.md").read_text()
    quoted = text.partition("> ```python\n")[2].partition("> ```")[0]
    exec("\n".join(line[2:] for line in quoted.splitlines()), {})
    found = float(capsys.readouterr().out.partition("tensor(")[2].partition(",")[0])
    if not found:
        pytest.skip("this PyTorch reads the layout")
    assert found == pytest.approx(3.4, abs=0.05)
