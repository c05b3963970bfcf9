"""Fixtures for every test: seeds, offline safety, and the shared data where it is there."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path

# Set before Ultralytics is imported anywhere: no network, no package installs, no settings of the user's touched.
os.environ.setdefault("YOLO_OFFLINE", "1")
os.environ.setdefault("YOLO_AUTOINSTALL", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "YOLO_CONFIG_DIR" not in os.environ:
    os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="attngraft-yolo-config-")
    atexit.register(shutil.rmtree, os.environ["YOLO_CONFIG_DIR"], ignore_errors=True)
    logging.disable(logging.INFO)  # where the settings are
    from ultralytics import settings

    settings.update(raytune=False)  # Ray is there for studies, and every training would load its tuner: a second each
    logging.disable(logging.NOTSET)

# Processes that a test starts, and those that the host starts, find the code under test.
SRC = str(Path(__file__).resolve().parents[1] / "src")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SRC, os.environ.get("PYTHONPATH")]))

import pytest
import torch

pytest_plugins = ["tests.hostkit"]

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Seed what is there: `torch.manual_seed` notes the stack for every accelerator that is not, 3 ms a test."""
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Keep two pytest workers from fighting over two cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of small real data sets, or skip where a checkout has none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the project's shared real data, which this checkout does not have beside it")
    return SHARED_DATA
