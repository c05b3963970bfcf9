"""What prose says of the published probes is what their records say.

Behind a number stands where it comes from, ``26<!-- learn: relation -->``, and around names the mechanisms of
which that holds: ``<!-- names: learn: xor -->`mha`, `ela`<!-- end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from attngraft.data.probes import PROBES
from attngraft.probe import opened
from attngraft.probe.instrument import NONE
from attngraft.probe.tally import MechanismTally, ProbeScore, Tally

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "studies" / "probes"
PAGES = {"studies/probes/README.md": 30, "studies/README.md": 4, "docs/probes.md": 2, "docs/probes.zh-CN.md": 2}
"""Pages with such statements, and how many they have at least."""

NUMBER = re.compile(r"(\d*\.?\d+)<!-- (\w+): (.*?) -->")
NAMES = re.compile(r"<!-- names: (\w+): (.*?) -->(.*?)<!-- end -->", re.DOTALL)
WHOLE = 7
"""Probes on which all mechanisms were run."""

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the published studies are no part of the package")


@pytest.fixture(scope="module")
def found() -> Tally:
    return opened(FOLDER)


def whole(found: Tally) -> list[MechanismTally]:
    """Return the mechanisms in their usual form, which were run on all the seven probes."""
    return [one for one in found.mechanisms if one.name != NONE and "(" not in one.name]


def scores(one: MechanismTally) -> list[ProbeScore]:
    """Return what a mechanism came to on the seven probes."""
    found = [score for score in one.scores if not score.control and score.probe not in ("global", "legend", "relbig")]
    assert len(found) == WHOLE, one.name
    return found


def ran(found: Tally, probe: str) -> list[MechanismTally]:
    """Return the mechanisms that were run on a probe; not all were on ``relbig``."""
    assert probe in PROBES
    return [one for one in whole(found) if one.score(probe)]


def of(found: Tally, mechanism: str, probe: str) -> ProbeScore:
    score = found.mechanism(mechanism).score(probe)
    assert score is not None, f"{mechanism} was not run on {probe}"
    return score


def cells(found: Tally, seeds: str) -> list[ProbeScore]:
    """Return the cells of mechanisms, and of none, on the seven probes that have so many seeds at least."""
    rows = [*whole(found), found.mechanism(NONE)]
    return [score for one in rows for score in scores(one) if score.seeds >= int(seeds)]


def learners(found: Tally, probe: str) -> set[str]:
    """Return who learned a probe at some seed; ``all`` means all seven."""
    if probe == "all":
        return {one.name for one in whole(found) if all(score.learned for score in scores(one))}
    return {one.name for one in ran(found, probe) if of(found, one.name, probe).learned}


def between(found: Tally, probe: str, low: str, high: str) -> set[str]:
    """Return whose mean accuracy lies between two numbers."""
    return {one.name for one in whole(found) if float(low) <= of(found, one.name, probe).accuracy <= float(high)}


ANSWERS: dict[str, Callable[..., float | set[str]]] = {
    "mechanisms": lambda found, _: len(whole(found)),
    "runs": lambda found, _: found.runs,
    "parameters": lambda found, name: found.mechanism(name).parameters,
    "reaches": lambda found, name: found.mechanism(name).reaches[0] or 0,
    "accuracy": lambda found, name, probe: of(found, name, probe).accuracy,
    "steps": lambda found, name, probe: of(found, name, probe).steps or 0,
    "seeds": lambda found, name, probe: of(found, name, probe).seeds,
    "learned": lambda found, name, probe: of(found, name, probe).learned,
    "ran": lambda found, probe: {one.name for one in ran(found, probe)},
    "ran_at": lambda found, probe, seeds: {
        one.name for one in ran(found, probe) if of(found, one.name, probe).seeds >= int(seeds)
    },
    "learn": learners,
    "split": lambda found, probe: {
        one.name
        for one in ran(found, probe)
        if 0 < of(found, one.name, probe).learned < of(found, one.name, probe).seeds
    },
    "soon": lambda found, probe, steps: {
        name for name in learners(found, probe) if (of(found, name, probe).steps or 0) <= int(steps)
    },
    "lost": lambda found, near, far: {
        one.name
        for one in ran(found, far)
        if 2 * of(found, one.name, near).learned >= of(found, one.name, near).seeds
        and one.name not in learners(found, far)
    },
    "usually": lambda found, probe: {
        one.name for one in whole(found) if 2 * of(found, one.name, probe).learned >= of(found, one.name, probe).seeds
    },
    "fail": lambda found, probe: {one.name for one in whole(found)} - learners(found, probe),
    "between": between,
    "outside": lambda found, *given: {one.name for one in whole(found)} - between(found, *given),
    "cells": lambda found, seeds: len(cells(found, seeds)),
    "agree": lambda found, seeds: sum(score.learned in (0, score.seeds) for score in cells(found, seeds)),
    "mechanisms_with": lambda found, seeds: {
        one.name for one in whole(found) if all(score.seeds >= int(seeds) for score in scores(one))
    },
    "always": lambda found, seeds: {
        one.name
        for one in whole(found)
        if all(score.seeds >= int(seeds) and score.learned == score.seeds for score in scores(one))
    },
}
"""What a statement may be about."""


def answer(found: Tally, kind: str, about: str) -> float | set[str]:
    return ANSWERS[kind](found, *about.split())


@pytest.mark.parametrize("page", PAGES)
def test_numbers_are_those_of_the_records(page: str, found: Tally) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    stated = NUMBER.findall(text)
    assert len(stated) + len(NAMES.findall(text)) >= PAGES[page]
    wrong = []
    for number, kind, about in stated:
        came = answer(found, kind, about)
        value = len(came) if isinstance(came, set) else came
        decimals = len(number.partition(".")[2])
        if abs(float(number) - value) > 0.5 * 10**-decimals + 1e-9:
            wrong.append(f"{number} for {kind}: {about}, which is {value:g}")
    assert not wrong


@pytest.mark.parametrize("page", PAGES)
def test_names_are_those_of_the_records(page: str, found: Tally) -> None:
    wrong = []
    known = {one.name for one in found.mechanisms}
    for kind, about, said in NAMES.findall((ROOT / page).read_text(encoding="utf-8")):
        names, came = set(re.findall(r"`(\w+)`", said)) & known, answer(found, kind, about)
        if names != came:
            assert isinstance(came, set)
            wrong.append(f"{kind}: {about} lacks {sorted(came - names)} and has {sorted(names - came)} too many")
    assert not wrong


def test_each_statement_is_read() -> None:
    """A comment that is no statement would state nothing."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        count = len(NUMBER.findall(text)) + 2 * len(NAMES.findall(text))
        assert count == text.count("<!--"), page


def test_a_wrong_statement_is_found(found: Tally) -> None:
    """Of a number, of a name: what is asked can come out otherwise."""
    assert answer(found, "learn", "relation") != answer(found, "learn", "reach")
    assert answer(found, "fail", "xor") == {one.name for one in whole(found)} - learners(found, "xor")
    assert answer(found, "agree", "1") < answer(found, "cells", "1")
