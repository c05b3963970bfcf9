"""One look at the trained beacons detector, for all tests of the room."""

from __future__ import annotations

import pytest

from attngraft.look import Look, look
from tests.maps.beacons import scenes, watched


@pytest.fixture(scope="session")
def seen() -> Look:
    return look(watched("global"), [scene.image for scene in scenes(2)], imgsz=96, scores=True)
