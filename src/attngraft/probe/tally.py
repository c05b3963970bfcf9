"""What probes came to: for each mechanism and probe how many seeds learned it, with an interval, and how soon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from attngraft._core.errors import UnknownNameError
from attngraft._core.schemas import json_schema
from attngraft.data.probes import PROBES
from attngraft.probe.instrument import BIN, NONE, Instrument, ProbeRecord

SCHEMA = "attngraft.probe/1"


@dataclass(frozen=True)
class ProbeScore:
    """How a mechanism did on a probe, or on its control.

    Attributes:
        probe: The probe.
        control: Whether it is the control.
        seeds: Runs.
        learned: How many of them learned it.
        low: Lower end of the 95 % interval of the rate of learning (Clopper and Pearson).
        high: Its upper end.
        accuracy: Mean accuracy of the runs; guessing gives .5.
        ap50: Mean AP at an overlap of .5, in points.
        steps: Median of the training steps to learn of the runs that learned; None where none did.
    """

    probe: str
    control: bool
    seeds: int
    learned: int
    low: float
    high: float
    accuracy: float
    ap50: float
    steps: float | None


@dataclass(frozen=True)
class Distance:
    """Accuracy at a distance.

    Attributes:
        low: First pixel of the bin.
        high: Last pixel of the bin.
        objects: Objects whose cue is that far, over all seeds.
        right: How many of them were right.
    """

    low: int
    high: int
    objects: int
    right: int


@dataclass(frozen=True)
class MechanismTally:
    """What one mechanism came to.

    Attributes:
        name: As recipes write it, or ``none`` for the detector without one.
        parameters: Of the mechanism in that detector.
        scores: Of each probe and control that it was run on.
        reach: Accuracy by distance, on the probe of that name.
        reaches: The last pixel up to which a run on it has the accuracy that counts as learned, the farthest run
            first; None where a run has it nowhere. By run, since one that learned nothing would hide in the mean how
            far the others see.
    """

    name: str
    parameters: int
    scores: tuple[ProbeScore, ...]
    reach: tuple[Distance, ...]
    reaches: tuple[int | None, ...]

    def score(self, probe: str, *, control: bool = False) -> ProbeScore | None:
        """Return the score of a probe; None where it was not run."""
        return next((one for one in self.scores if (one.probe, one.control) == (probe, control)), None)


@dataclass(frozen=True)
class Tally:
    """What all runs of a folder came to.

    Attributes:
        instrument: How they were trained.
        hash: Of the instrument.
        mechanisms: The detector without one first, then by name.
        probes: Those that were run, in the order of the table of probes.
        runs: How many runs.
        seconds: Processor time of them all.
        versions: Versions of packages, one text for each combination there was.
        devices: Processors.
    """

    instrument: Instrument
    hash: str
    mechanisms: tuple[MechanismTally, ...]
    probes: tuple[str, ...]
    runs: int
    seconds: float
    versions: tuple[str, ...]
    devices: tuple[str, ...]

    def mechanism(self, name: str) -> MechanismTally:
        """Return what one mechanism came to.

        Raises:
            UnknownNameError: If it was not run.
        """
        found = {one.name: one for one in self.mechanisms}
        if name not in found:
            raise UnknownNameError("mechanism of these probes", name, found)
        return found[name]


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of ``report.json``."""
    return json_schema(Tally, SCHEMA)


def tally(instrument: Instrument, records: Iterable[ProbeRecord]) -> Tally:
    """Count what came out of runs.

    Args:
        instrument: How they were trained.
        records: One of each run.
    """
    records = list(records)
    names = sorted({record.mechanism for record in records}, key=lambda name: (name != NONE, name))
    ran = {record.probe for record in records}
    return Tally(
        instrument,
        instrument.hash,
        tuple(_of_mechanism(name, [r for r in records if r.mechanism == name], instrument) for name in names),
        tuple(probe for probe in PROBES if probe in ran),
        len(records),
        round(sum(record.seconds for record in records), 1),
        tuple(sorted({f"torch {r.versions['torch']}, ultralytics {r.versions['ultralytics']}" for r in records})),
        tuple(sorted({record.device for record in records})),
    )


def reached(bins: Sequence[tuple[int, int, int]], least: float) -> int | None:
    """Return the last pixel up to which a run has an accuracy; None where it has it nowhere.

    What sees far sees nearer, too. So a bin counts by the accuracies that fit the counts best, by least squares,
    without rising with distance (isotonic regression): two errors of luck in one bin end no reach if farther bins are
    right.

    Args:
        bins: First pixel, objects and how many of them were right, as in `ProbeRecord.reach`.
        least: The accuracy.
    """
    falling = _falling([(right, objects) for _, objects, right in bins])
    seen = [low + BIN - 1 for (low, _, _), fitted in zip(bins, falling, strict=True) if fitted >= least]
    return max(seen, default=None)


def _falling(counts: Sequence[tuple[int, int]]) -> list[float]:
    """Fit shares ``right / all`` by least squares that never rise, weighted by how many each is of.

    By the min-max formula: the least, over where a block may begin, of the largest mean, over where it may end.
    """

    def share(first: int, last: int) -> float:
        block = counts[first : last + 1]
        return sum(right for right, _ in block) / sum(objects for _, objects in block)

    bins = range(len(counts))
    return [min(max(share(first, last) for last in bins[at:]) for first in bins[: at + 1]) for at in bins]


def _of_mechanism(name: str, records: Sequence[ProbeRecord], instrument: Instrument) -> MechanismTally:
    kinds = [(probe, control) for control in (False, True) for probe in PROBES]
    groups = {kind: [r for r in records if (r.probe, r.control) == kind] for kind in kinds}
    scores = tuple(_score(*kind, group, instrument.learned) for kind, group in groups.items() if group)
    objects: Counter[int] = Counter()
    right: Counter[int] = Counter()
    far = [record.reach for record in records if record.reach and not record.control]
    for low, count, good in (one for run in far for one in run):
        objects[low] += count
        right[low] += good
    reach = tuple(Distance(low, low + BIN - 1, objects[low], right[low]) for low in sorted(objects))
    ends = sorted((reached(run, instrument.learned) for run in far), key=lambda end: -1 if end is None else end)
    parameters = max(record.parameters for record in records)
    return MechanismTally(name, parameters, scores, reach, tuple(reversed(ends)))


def _score(probe: str, control: bool, records: Sequence[ProbeRecord], least: float) -> ProbeScore:
    from attngraft.study.judging.learning import rate_interval  # needs SciPy

    learned = [record for record in records if record.accuracy >= least]
    steps = [record.steps for record in learned if record.steps is not None]
    low, high = rate_interval(len(learned), len(records))
    return ProbeScore(
        probe,
        control,
        len(records),
        len(learned),
        round(low, 4),
        round(high, 4),
        round(mean(record.accuracy for record in records), 4),
        round(mean(record.ap50 for record in records), 2),
        median(steps) if steps else None,
    )
