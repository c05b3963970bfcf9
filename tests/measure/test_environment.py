"""What figures were taken on."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from attngraft import measure
from attngraft._core.processor import Processor


def test_the_environment_names_device_and_versions() -> None:
    found = measure.environment()
    assert found.versions["torch"] == torch.__version__
    assert found.device
    assert found.cores >= 1
    assert found.threads == torch.get_num_threads()
    assert found.date.endswith("+00:00")


@pytest.mark.parametrize(("vectors", "name"), [("AVX2", "Chip (AVX2)"), ("DEFAULT", "Chip")])
def test_a_processor_is_named_with_its_vectors(monkeypatch: pytest.MonkeyPatch, vectors: str, name: str) -> None:
    environment = import_module("attngraft.measure.environment")  # the package's name is the function
    monkeypatch.setattr(environment, "described", {"model name": "Chip"}.get)
    monkeypatch.setattr(environment, "processor", lambda: Processor("", vectors, amx=False))
    assert environment.device_name(torch.device("cpu")) == name
