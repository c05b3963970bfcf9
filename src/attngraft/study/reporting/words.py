"""What a report says in words; every number in it comes from the records."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attngraft.study.plan import Plan
from attngraft.study.running.records import Record

if TYPE_CHECKING:
    from attngraft.study.judging.evidence import Row
    from attngraft.study.judging.verdict import Verdict

TEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}


def points(value: float) -> str:
    """Write AP points, or a dash where there are none.

    Example:
        >>> points(41.236), points(float("nan"))
        ('41.24', '–')
    """
    return f"{value:.2f}" if math.isfinite(value) else "–"


def signed(value: float) -> str:
    """Write a difference with its sign; infinite ends of an interval stay readable.

    Example:
        >>> signed(-0.5), signed(float("inf")), signed(-0.001)
        ('−0.50', '+∞', '0.00')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "+∞" if value > 0 else "−∞"
    text = f"{abs(value):.2f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


def count(value: float | None) -> str:
    """Write a large number shortly.

    Example:
        >>> [count(n) for n in (31, 131_650, 2_600_000, 6.5e9)]
        ['31', '132 k', '2.60 M', '6.50 G']
    """
    if value is None:
        return "–"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.0f} {letter}" if letter == "k" else f"{value / size:.2f} {letter}"
    return f"{value:.0f}"


def tex(text: object) -> str:
    r"""Escape what LaTeX reads as its own, and write signs as mathematics.

    Example:
        >>> tex("ema_2@P5"), tex("−0.50")
        ('ema\\_2@P5', '$-$0.50')
    """
    escaped = re.sub(r"[&%_#${}~]", lambda found: TEX[found.group()], str(text))
    return escaped.replace("−", "$-$").replace("∞", r"$\infty$").replace("×", r"$\times$").replace("–", "--")


def advice(verdict: Verdict) -> str:
    """Say a verdict, and what would decide it where it is open."""
    return f"{verdict.outcome}{verdict.advice}".replace("about 1 more seeds", "about 1 more seed")


def headline(rows: Sequence[Row], plan: Plan) -> list[str]:
    """Answer the question of the study, a sentence an arm."""
    return [_sentence(row, plan) for row in rows if row.verdict is not None]


def _sentence(row: Row, plan: Plan) -> str:
    assert row.verdict is not None
    low, high = row.interval
    cost = row.cost.get("latency")
    at = f", at {cost['ratio']:.2f} times its latency" if cost else ""
    said = {
        "better": f"{row.arm.name} is better than {base(plan)}",
        "worse": f"{row.arm.name} is worse than {base(plan)}",
        "no difference": f"{row.arm.name} makes no difference of {plan.sesoi:g} {plan.metric} points or more",
        "undecided": f"{row.arm.name} is {advice(row.verdict)}",
    }[row.verdict.outcome]
    numbers = f"{signed(row.estimate.difference)} {plan.metric} points, {100 * (1 - plan.alpha):g} % interval"
    return f"{said}: {numbers} {signed(low)} to {signed(high)}{at}.{_beside_conv(row)}"


def _beside_conv(row: Row) -> str:
    found = row.against_conv
    if row.verdict is None or row.verdict.outcome != "better" or found is None:
        return ""
    difference = signed(found.estimate.difference)
    if found.outcome == "better":
        return f" It also beats a plain convolution of equal cost ({difference})."
    return f" It was not shown to beat a plain convolution of equal cost ({difference}: {found.outcome})."


def base(plan: Plan) -> str:
    """Name the base without the folder it was in."""
    return re.sub(r".*/", "", plan.base)


def data(plan: Plan) -> str:
    """Name the data by the last folder and the file; where they are kept is nobody else's concern.

    Example:
        >>> data(Plan(data="fruit/data.yaml", arms=("eca@P5",)))
        'fruit/data.yaml'
    """
    return "/".join(Path(plan.data).parts[-2:])


def pairing(records: Sequence[Record]) -> list[str]:
    """Say whether arms of one seed had the same initial weights, pictures and batches, as the checksums show."""
    facts: dict[str, Callable[[Record], Any]] = {
        "initial weights outside the grafts": lambda record: tuple(record.watch["weights"]),
        "training pictures": lambda record: tuple(record.watch["pictures"]),
        "batches of every epoch, pixels included": lambda record: tuple(record.watch["batches"]),
        "batch size": lambda record: record.watch["batch"],
    }
    said = []
    for what, value in facts.items():
        odd = [
            f"{r.arm} at seed {r.seed}" for r in records if _stock(records, r) and value(r) != value(_stock(records, r))
        ]
        same = "the same for all arms of a seed (compared by checksum)"
        said.append(f"{what}: " + (f"not those of the stock model in {', '.join(odd)}" if odd else same))
    return said


def _stock(records: Sequence[Record], of: Record) -> Any:
    return next((record for record in records if record.arm == "stock" and record.seed == of.seed), None)


def nondeterminism(records: Sequence[Record]) -> list[str]:
    """Say what was not deterministic."""
    operators = sorted({name for record in records for name in record.watch["nondeterministic"]})
    resumed = [
        f"{record.arm} at seed {record.seed} was interrupted and went on from epoch {', '.join(map(str, epochs))}, "
        "from averaged half-precision weights and with another order of pictures"
        for record in records
        if (epochs := record.watch["resumed"])
    ]
    devices = {str(record.environment.get("device")) for record in records}
    said = [f"PyTorch has no deterministic implementation of {', '.join(operators)}"] if operators else []
    said += [f"runs were made on different devices: {', '.join(sorted(devices))}"] if len(devices) > 1 else []
    return said + resumed


def methods(content: Mapping[str, Any]) -> str:
    """Write the paragraph that a thesis can quote."""
    plan, records = content["plan"], content["records"]
    arms = [row.arm.name for row in content["rows"] if row.arm.kind == "arm"]
    controls = [row.arm.name for row in content["rows"] if row.arm.kind == "control"]
    made = content["environment"][0]
    versions = made.get("versions", {})
    seeds = sorted({record.seed for record in records})
    looks = (
        f"Arms were judged after every seed from number {max(plan.seeds, 2)} to number {plan.max_seeds}, with p-values "
        "and intervals that allow for all of these looks."
        if plan.max_seeds
        else "Arms were judged once, after all seeds."
    )
    search = content["search"]
    chosen = f", the winners of a search over {search['tried']} recipes on other seeds," if search else ""
    beside = f" and with the controls {', '.join(controls)}" if controls else ""
    software = f"PyTorch {versions.get('torch', 'unknown')}, Ultralytics {versions.get('ultralytics', 'unknown')}"
    return (
        f"We compared {', '.join(arms)}{chosen} with {base(plan)} as it is{beside}. Every arm was trained for "
        f"{plan.train['epochs']} epochs at {plan.train['imgsz']} pixels with batches of {records[0].watch['batch']}, "
        f"at {len(seeds)} seeds ({len(records)} runs); arms of one seed shared initial weights, data order and "
        f"augmentation. The averaged weights of the last epoch were evaluated on the split '{plan.split}' with COCO's "
        f"evaluation of {compared(records)} (confidence from 0.001, at most 100 detections a picture). "
        f"Differences in {plan.metric} were "
        "paired by seed; their standard errors combine the variance over seeds with a bootstrap variance over images, "
        "and intervals use Student's t for the part that is due to seeds. 'Better' and 'worse' control the family-wise "
        f"error at {plan.alpha:g} over the arms (Holm); 'no difference' means equivalence within ±{plan.sesoi:g} "
        f"points (two one-sided tests at {plan.alpha:g} for each arm). {looks} Latency was measured in turns on "
        f"one machine, on fused models and single pictures. Software: attngraft {_own_version()}, {software}; on "
        f"{made.get('device', 'unknown')}. Plan {content['fixed'].hash}."
    )


def compared(records: Sequence[Record]) -> str:
    """Say what the evaluation compared."""
    return {"bbox": "boxes", "segm": "masks"}[records[0].task]


def _own_version() -> str:
    from attngraft import __version__

    return __version__
