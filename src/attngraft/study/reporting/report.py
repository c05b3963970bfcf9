"""The report of a study: one page that opens offline, and the same as Markdown, LaTeX and lines of JSON."""

from __future__ import annotations

import base64
import io
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attngraft._core.errors import MissingExtraError, PlanError
from attngraft._core.files import write_text
from attngraft.coco.average_precision import metric_values
from attngraft.drawing import Box, side_by_side
from attngraft.study.judging.evidence import STOCK, Evidence, Row
from attngraft.study.judging.statistics import Estimate
from attngraft.study.plan import Fixed
from attngraft.study.reporting import figures, words
from attngraft.study.reporting.figures import Gain
from attngraft.study.running.costs import measure_costs
from attngraft.study.running.records import Record, Run, Store, planned

TEMPLATES = Path(__file__).parent / "templates"
PICTURES = 5
SHOWN_ARMS = 3
THUMBNAIL = 300
"""Pixels of the longer side of a sample picture."""

NO_COST: Mapping[str, Any] = {"trained_parameters": None, "flops": None, "latency": None}

SURE = 0.25
"""Confidence from which a detection is drawn, the host's own for predictions."""


@dataclass(frozen=True)
class Conclusion:
    """What a study came to.

    Attributes:
        report: The page, ``report.html``.
        answers: A sentence for each arm that was asked for, as the page has them.
    """

    report: Path
    answers: tuple[str, ...]


def write_report(store: Store, fixed: Fixed, records: Sequence[Record]) -> Conclusion:
    """Write ``report.html``, ``report.md``, ``table.tex`` and ``records.jsonl`` into the study's folder.

    Args:
        store: The folder.
        fixed: The plan.
        records: The records of what is finished: the first seed of the stock model and of an arm, or more.

    Raises:
        PlanError: If nothing can be compared yet.
        MissingExtraError: If jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("jinja2", "study") from error
    content = gather(store, fixed, records)
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
    )
    templates.globals["words"] = words
    templates.filters |= {"points": words.points, "signed": words.signed, "count": words.count, "tex": words.tex}
    folder = store.folder
    for name in ("report.md", "table.tex", "report.html"):
        write_text(folder / name, templates.get_template(f"{name}.j2").render(content))
    lines = (json.dumps(asdict(record)) for record in content["records"])
    write_text(folder / "records.jsonl", "".join(f"{line}\n" for line in lines))
    return Conclusion(folder / "report.html", tuple(content["headline"]))


def gather(store: Store, fixed: Fixed, records: Sequence[Record]) -> dict[str, Any]:
    """Collect everything that the templates show.

    Raises:
        PlanError: If nothing can be compared yet.
    """
    evidence = Evidence.of(store, fixed)
    if not evidence.arms:
        raise PlanError(
            f"{store.folder} has no seed at which the stock model and an arm are both finished; run it first"
        )
    costs = measure_costs(store)
    rows = table(evidence, costs)
    gains = [_gain(row, evidence) for row in rows]
    failures = {str(run): store.failure(run) for run in planned(fixed) if not store.has(run)}
    content: dict[str, Any] = {
        "fixed": fixed,
        "plan": fixed.plan,
        "rows": rows,
        "stock": {
            "level": _mean_level(evidence, STOCK),
            "cost": _cost(costs, STOCK),
            "seeds": len(evidence.tables[STOCK]),
        },
        "records": records,
        "headline": words.headline(rows, fixed.plan),
        "costs": costs,
        "failures": failures,
        "breakdown": breakdown(evidence),
        "errors": {name: _errors([r for r in records if r.arm == name]) for name in [STOCK, *(g.name for g in gains)]},
        "figures": _figures(evidence, records, gains, bool(costs["measurements"])),
        "samples": samples(store, fixed, evidence),
        "pairing": words.pairing(records),
        "nondeterminism": words.nondeterminism(records),
        "environment": _environments(records),
        "search": _search(store),
    }
    return content | {"methods": words.methods(content)}


def table(evidence: Evidence, costs: Mapping[str, Any]) -> list[Row]:
    """Return the table of verdicts: arms by falling difference, then controls."""
    plan = evidence.fixed.plan
    stock, conv = evidence.against_stock(), evidence.against_conv()
    estimates = evidence.estimates(plan.metric)
    rows = []
    for arm in evidence.arms:
        verdict, found = stock.get(arm.name), estimates[arm.name]
        interval = verdict.interval if verdict else found.interval(1 - plan.alpha)
        level = _mean_level(evidence, arm.name)
        rows.append(Row(arm, verdict, found, interval, conv.get(arm.name), level, _cost(costs, arm.name)))
    rows.sort(key=lambda row: (row.arm.kind == "control", -row.estimate.difference))
    front = figures.pareto([_gain(row, evidence) for row in rows])
    return [Row(**{**vars(row), "front": row.arm.name in front}) for row in rows]


def breakdown(evidence: Evidence) -> dict[str, Any]:
    """Return the differences of the arms that were asked for by metric, object size and class, with intervals."""
    plan = evidence.fixed.plan
    arms = [arm.name for arm in evidence.arms if arm.kind == "arm"]
    found = {arm: evidence.breakdown(arm) for arm in arms}
    metrics = list(dict.fromkeys([plan.metric, "AP", "AP50", "AP75", *evidence.sizes()]))
    classes = [name.removeprefix("AP/") for name in next(iter(found.values()), {}) if "/" in name]
    return {
        "arms": arms,
        "metrics": {name: {arm: _cell(found[arm][name], plan.alpha) for arm in arms} for name in metrics},
        "classes": {name: {arm: _cell(found[arm][f"AP/{name}"], plan.alpha) for arm in arms} for name in classes},
    }


def samples(store: Store, fixed: Fixed, evidence: Evidence) -> str:
    """Draw the pictures on which the arms disagree most: the truth, the stock model and the arms, one seed of each.

    Returns:
        The sheet as a data URL; empty where the pictures are no longer there.
    """
    asked = [arm for arm in evidence.arms if arm.kind == "arm"][:SHOWN_ARMS]
    seed = evidence.seeds(asked[0].name)[0] if asked else fixed.plan.first_seed
    arms = [fixed.arm(STOCK), *(arm for arm in asked if seed in evidence.seeds(arm.name))]
    truth = store.truth()
    found = {arm.name: _by_image(store.detections(Run(arm, seed))) for arm in arms}
    chosen = sorted(truth["images"], key=lambda image: -_disagreement(image["id"], found))[:PICTURES]
    root = Path(truth["root"])
    if not all((root / image["file_name"]).is_file() for image in chosen):
        return ""
    real: dict[int, list[dict[str, Any]]] = _by_image(truth["annotations"], sure=None)
    with tempfile.TemporaryDirectory() as home:
        files, scales = [], []
        for index, image in enumerate(chosen):
            with Image.open(root / image["file_name"]) as picture:
                scale = min(1.0, THUMBNAIL / max(picture.size))
                size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
                files.append(Path(home) / f"{index}.png")
                picture.convert("RGB").resize(size).save(files[-1])
            scales.append(size[0] / image["width"])
        columns = {
            title: [_boxes(boxes.get(image["id"], []), scale) for image, scale in zip(chosen, scales, strict=True)]
            for title, boxes in {"truth": real, **found}.items()
        }
        names = [category["name"] for category in truth["categories"]]
        zoom = max(1, 2 * THUMBNAIL // 3 // max(image["width"] for image in chosen))
        sheet = side_by_side(files, columns, Path(home) / "sheet.png", class_names=names, zoom=zoom)
        return _data_url(sheet)


def _figures(evidence: Evidence, records: Sequence[Record], gains: Sequence[Gain], timed: bool) -> dict[str, str]:
    plan = evidence.fixed.plan
    shown = ["stock", *(gain.name for gain in gains)]
    drawn = {"gains": figures.gains_figure(gains, plan.sesoi, plan.metric)}
    if timed:
        drawn["latency"] = figures.latency_figure(gains, plan.metric)
    curves = {name: _curves([r for r in records if r.arm == name]) for name in shown}
    if any(curve.size for curve in curves.values()):
        drawn["curves"] = figures.curves_figure({name: c for name, c in curves.items() if c.size}, gains)
    errors = {name: _errors([r for r in records if r.arm == name]) for name in shown}
    drawn["errors"] = figures.bars_figure(errors, gains, "errors", "AP50 points that it costs")
    return drawn


def _errors(records: Sequence[Record]) -> dict[str, float]:
    """Average the cost of each type of error over seeds."""
    return {kind: float(np.mean([record.errors[kind] for record in records])) for kind in records[0].errors}


def _gain(row: Row, evidence: Evidence) -> Gain:
    timing = row.cost.get("latency")
    latency = (timing["ratio"], timing["ratio_low"], timing["ratio_high"]) if timing else None
    seeds = evidence.differences(evidence.fixed.plan.metric, row.arm.name).observed.tolist()
    return Gain(row.arm.name, row.arm.kind == "control", row.estimate.difference, row.interval, seeds, latency)


def _mean_level(evidence: Evidence, arm: str) -> float:
    runs = [evidence.tables[arm][seed] for seed in evidence.seeds(arm)]
    return float(np.mean([metric_values(run, evidence.fixed.plan.metric)[0] for run in runs]))


def _cost(costs: Mapping[str, Any], arm: str) -> Mapping[str, Any]:
    return next((cost for cost in costs["measurements"] if cost["name"] == arm), NO_COST)


def _cell(found: Estimate, alpha: float) -> dict[str, Any]:
    low, high = found.interval(1 - alpha)
    sure = math.isfinite(low) and (low > 0 or high < 0)
    return {"difference": found.difference, "low": low, "high": high, "sure": sure}


def _curves(records: Sequence[Record]) -> np.ndarray[Any, Any]:
    of = {"bbox": "B", "segm": "M"}
    rows = [[100 * row.get(f"metrics/mAP50-95({of[r.task]})", math.nan) for row in r.curve] for r in records]
    epochs = min(map(len, rows), default=0)
    return np.array([row[:epochs] for row in rows])


def _by_image(found: Sequence[dict[str, Any]], sure: float | None = SURE) -> dict[int, list[dict[str, Any]]]:
    kept: dict[int, list[dict[str, Any]]] = {}
    for one in found:
        if sure is None or one["score"] >= sure:
            kept.setdefault(one["image_id"], []).append(one)
    return kept


def _disagreement(image: int, found: Mapping[str, Mapping[int, list[dict[str, Any]]]]) -> float:
    """Say how differently the arms see a picture: boxes of one arm that another has no like of, over all pairs."""
    boxes = [arm.get(image, []) for arm in found.values()]
    return sum(_unmatched(one, other) for one in boxes for other in boxes if one is not other)


def _unmatched(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> float:
    return sum(box["score"] * (not any(_alike(box, twin) for twin in other)) for box in one)


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    (x, y, w, h), (u, v, a, b) = one["bbox"], other["bbox"]
    across, down = min(x + w, u + a) - max(x, u), min(y + h, v + b) - max(y, v)
    shared = max(across, 0) * max(down, 0)
    return one["category_id"] == other["category_id"] and 2 * shared >= w * h + a * b - shared


def _boxes(found: Sequence[dict[str, Any]], scale: float) -> list[Box]:
    return [
        Box(x * scale, y * scale, (x + w) * scale, (y + h) * scale, one["category_id"], one.get("score"))
        for one in found
        for x, y, w, h in [one["bbox"]]
    ]


def _data_url(sheet: Path) -> str:
    packed = io.BytesIO()
    with Image.open(sheet) as picture:
        picture.convert("RGB").save(packed, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(packed.getvalue()).decode()}"


def _environments(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return each different environment that runs were made in, with how many."""
    kinds: dict[str, dict[str, Any]] = {}
    for record in records:
        plain = {key: value for key, value in record.environment.items() if key != "date"}
        kind = kinds.setdefault(json.dumps(plain, sort_keys=True), {**plain, "runs": 0})
        kind["runs"] += 1
    return list(kinds.values())


def _search(store: Store) -> dict[str, Any]:
    """Read how the arms were found, where they were found by a search."""
    file = store.folder / "search.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found
