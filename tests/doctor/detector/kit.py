"""How one check is run on one recipe, and a plugin of mechanisms that break a detector in one way each."""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import attngraft
from attngraft._core import plugins
from attngraft._core.registry import unregister
from attngraft.doctor import Finding, examine
from attngraft.doctor.detector.checklist import DETECTOR_CHECKS
from attngraft.doctor.detector.subject import DetectorSubject
from attngraft.yolo.model import quiet

MICRO = "attngraft-micro.yaml"
CHECKS = {item.name: item for item in DETECTOR_CHECKS}
BROKEN = """
import attngraft, torch
from torch import nn
from torch.nn import functional as F

class Plain(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

@attngraft.register
class FixedTable(Plain):
    def __init__(self, channels):
        super().__init__(channels)
        self.table = nn.Parameter(torch.zeros(channels, 14, 14))
    def forward(self, x):
        return self.conv(x) + self.table

@attngraft.register
class NanSmall(Plain):
    def forward(self, x):
        off = x - x.mean((2, 3), keepdim=True)
        return x * self.conv(off.square().sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)).sigmoid()

@attngraft.register
class AllPairs(Plain):
    def forward(self, x):
        q = self.conv(x).flatten(2).unflatten(1, (4, -1)).transpose(2, 3)  # (B, 4, N, C / 4)
        y = F.scaled_dot_product_attention(q, q, q)
        return y.transpose(2, 3).flatten(1, 2).view_as(x)

@attngraft.register
class InPlace(Plain):
    def forward(self, x):
        with torch.no_grad():
            x += 0.1
        return self.conv(x)

@attngraft.register
class MixesBatch(Plain):
    def forward(self, x):
        return self.conv(x) * x.softmax(0)

@attngraft.register
class PoolsUp(Plain):
    def forward(self, x):
        return F.adaptive_avg_pool2d(F.adaptive_avg_pool2d(self.conv(x), 3), x.shape[2:])

@attngraft.register
class Detached(Plain):
    def forward(self, x):
        return self.conv(x).detach() + x

@attngraft.register
class Overflows(Plain):
    def forward(self, x):
        return self.conv(x * 1e5) * 1e-5

@attngraft.register
class Explodes(Plain):
    def forward(self, x):
        return x / 0.0

@attngraft.register
class KeepsItsOutput(Plain):
    def forward(self, x):
        self.last = self.conv(x)
        return self.last

@attngraft.register
class Noisy(Plain):
    def forward(self, x):
        return self.conv(x) + 0.1 * torch.rand_like(x)
"""


def find(name: str, recipe: str, **circumstances: object) -> Finding:
    with quiet():
        (finding,) = examine(DetectorSubject(recipe, **circumstances), [CHECKS[name]])  # type: ignore[arg-type]
    return finding


@contextmanager
def broken_mechanisms(folder: Path) -> Iterator[None]:
    """Load the plugin inside, and leave no trace of it."""
    file = folder / "broken_of_a_test.py"
    file.write_text(BROKEN)
    before = set(attngraft.names())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(plugins.VARIABLE, "")
        module = attngraft.load_plugin(file)
        yield
    for name in set(attngraft.names()) - before:
        unregister(name)
    for value in vars(module).values():
        if isinstance(value, type):
            copyreg.dispatch_table.pop(value, None)
    sys.modules.pop(file.stem)
