"""What was resampled before is read again, and only if everything is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attngraft.coco.evaluate import evaluate
from attngraft.study.judging import cache as module
from attngraft.study.judging.bootstrap import Draw, resample
from attngraft.study.judging.cache import Cache, checksum


@pytest.fixture
def run(problem):
    made = problem(1, images=30, objects=4, detections=6)
    return evaluate(made.truth, made.predictions).matches


def test_a_second_look_resamples_nothing(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Draw(40)
    first = Cache(tmp_path, writes=True).resampled(run, "AP", draw)
    monkeypatch.setattr(module, "_resample", lambda *_: pytest.fail("resampled again"))
    again = Cache(tmp_path).resampled(run, "AP", draw)
    np.testing.assert_array_equal(again.resampled, first.resampled)
    np.testing.assert_array_equal(again.observed, first.observed)
    assert (again.freedom, again.correction, again.images) == (first.freedom, first.correction, first.images)


def test_it_is_what_resampling_gives_and_reading_writes_nothing(run, tmp_path: Path) -> None:
    found = Cache(tmp_path / "none").resampled(run, "AP50", Draw(20))
    np.testing.assert_array_equal(found.resampled, resample([run], "AP50", resamples=20).resampled)
    assert not (tmp_path / "none").exists()


def test_whatever_it_depends_on_is_in_the_name(run) -> None:
    groups, kept = np.arange(30) // 2, np.arange(30) % 2 == 0
    sums = {
        checksum(run, "AP", Draw(20)),
        checksum(run, "AP50", Draw(20)),
        checksum(run, "AP", Draw(21)),
        checksum(run, "AP", Draw(20, seed=1)),
        checksum(run, "AP", Draw(20, groups=groups)),
        checksum(run, "AP", Draw(20, kept=kept)),
    }
    assert len(sums) == 6


def test_a_broken_file_is_made_anew(run, tmp_path: Path) -> None:
    cache = Cache(tmp_path, writes=True)
    first = cache.resampled(run, "AP", Draw(20))
    (file,) = tmp_path.glob("*.npz")
    whole = file.read_bytes()
    for broken in (b"half a file", b"", whole[: len(whole) // 2]):
        file.write_bytes(broken)
        np.testing.assert_array_equal(cache.resampled(run, "AP", Draw(20)).resampled, first.resampled)
        assert file.read_bytes()[:2] == whole[:2]  # and is whole again
