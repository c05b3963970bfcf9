"""What figures were taken on."""

from __future__ import annotations

import torch

from attngraft import measure


def test_the_environment_names_device_and_versions() -> None:
    found = measure.environment()
    assert found.versions["torch"] == torch.__version__
    assert found.device
    assert found.cores >= 1
    assert found.threads == torch.get_num_threads()
    assert found.date.endswith("+00:00")
