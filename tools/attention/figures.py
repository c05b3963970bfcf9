"""Still figures for the Markdown pages, as SVG: every number in them is computed from the arrays.

They carry no words of a language, only formulas and numbers, so both languages show the same file.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from tools.attention.arrays import SIDE, Arrays
from tools.attention.facts import Asked, asked

from attngraft.look.drawn import NEGATIVE, POSITIVE
from tools.attention import operator

PIXELS = 96
TILE, GAP, TOP = 180, 16, 26
STYLE = """
.paper{fill:#fdfdfb}text{font:13px system-ui,sans-serif;fill:#1f2328}.small{font-size:11px;fill:#57606a}.i{font-style:italic;font-family:"Times New Roman",serif;font-size:15px}
.line{fill:none;stroke:#57606a}.bar{fill:#2c718e}.other{fill:#c94f36}.box{fill:#fff;stroke:#57606a}.here{fill:#ffe9b8;stroke:#966400}.own{fill:#d8e8ff;stroke:#0b62c4}
@media(prefers-color-scheme:dark){.paper{fill:#1c2026}text{fill:#e6edf3}.small{fill:#9aa5b1}.line{stroke:#9aa5b1}.bar{fill:#4aa3c7}.other{fill:#f08a6c}.box{fill:#14171b;stroke:#9aa5b1}.here{fill:#4a3a10;stroke:#d9a93f}.own{fill:#16304f;stroke:#6cb0ff}}
""".strip().replace("\n", "")


@dataclass(frozen=True)
class Map:
    """One map of a figure.

    Attributes:
        title: A formula, as text.
        values: ``(N,)``, or None for the image itself.
        signed: Whether colours go both ways from zero.
        most: The value of the last colour; None for the largest.
    """

    title: str
    values: operator.Floats | None = None
    signed: bool = False
    most: float | None = None


def figures(arrays: Arrays) -> dict[str, str]:
    """Return every figure by its name."""
    return {name: draw(arrays) for name, draw in DRAWN.items()}


def scene(arrays: Arrays) -> str:
    """Draw the image with the cell that asks, and the row of the head that looks far."""
    at = asked(arrays)
    return _maps(arrays, at, [Map("x"), Map(f"a, h = {at.head}", at.row)])


def terms(arrays: Arrays) -> str:
    """Draw what a row is made of: content, position, their sum, and the softmax."""
    at = asked(arrays)
    most = float(max(abs(at.content).max(), abs(at.content + at.position).max()))
    return _maps(arrays, at, [
        Map("q·k / √d", at.content, True, most), Map("q·r / √d", at.position, True), Map("q·(k + r) / √d", at.content + at.position, True, most),
        Map("softmax", at.row),
    ])  # fmt: skip


def heads(arrays: Arrays) -> str:
    """Draw the rows of all heads on one scale."""
    at = asked(arrays)
    rows = [operator.rows(arrays, at.scene, h)[at.query] for h in range(operator.HEADS)]
    most = float(max(row.max() for row in rows))
    return _maps(arrays, at, [Map(f"h = {h}", row, most=most) for h, row in enumerate(rows)])


def mix(arrays: Arrays) -> str:
    """Draw the weights, the first channel of v, and their product."""
    at = asked(arrays)
    value = operator.vectors(arrays, at.scene, at.head)[2][0]
    product = at.row * value
    return _maps(arrays, at, [
        Map("a", at.row), Map("v, c = 1", value, True), Map(f"a v,  Σ = {product.sum():.3f}", product, True),
    ])  # fmt: skip


def copied(arrays: Arrays) -> str:
    """Draw position terms and rows of the paper's operator and of the widely copied class."""
    at = asked(arrays)
    q, _, _ = operator.vectors(arrays, at.scene, at.head)
    other = operator.position_copied(q, arrays)[at.query]
    row = operator.rows_copied(arrays, at.scene, at.head)[at.query]
    most = float(max(row.max(), at.row.max()))
    return _maps(arrays, at, [
        Map("qᵢ·rⱼ₋ᵢ / √d", at.position, True), Map("rᵢ·qⱼ", other, True), Map("softmax", at.row, most=most), Map("softmax", row, most=most),
    ])  # fmt: skip


def scale(arrays: Arrays) -> str:
    """Draw the largest weights of the row with the factor and without."""
    at = asked(arrays)
    rows = [operator.rows(arrays, at.scene, at.head, scale=s)[at.query] for s in (None, 1.0)]
    parts = []
    for n, (title, row) in enumerate(zip(("1/√d = 0.25", "1"), rows, strict=True)):
        largest, left = np.sort(row)[::-1][:16], 12 + n * 300
        parts.append(
            f'<text x="{left}" y="18">{title}</text><text x="{left + 270}" y="18" text-anchor="end" class="small">{largest[0]:.3f}</text>'
        )
        parts += [
            f'<rect class="{"other" if n else "bar"}" x="{left + 17 * i}" y="{150 - 120 * a:.1f}" width="14" height="{max(120 * a, 0.5):.1f}"/>'
            for i, a in enumerate(largest)
        ]
        parts.append(f'<path class="line" d="M{left} 150.5h271"/>')
    return _svg(600, 162, parts)


def gamma(arrays: Arrays) -> str:
    """Draw the class scores of the first object over gamma."""
    scores = arrays["by_gamma"][:, 0]  # (G, 2)
    parts = ['<path class="line" d="M40 15V150H480"/>']
    for label, (name, hue, dash) in enumerate((("p(red)", "#c94f36", ""), ("p(green)", "#008c5a", "6 3"))):
        points = " ".join(
            f"{40 + 440 * g:.1f},{150 - 130 * p:.1f}" for g, p in zip(arrays["gammas"], scores[:, label], strict=True)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{hue}" stroke-width="2.5" stroke-dasharray="{dash}"/>'
        )
        parts.append(f'<text x="430" y="{38 if not label else 140}" text-anchor="end" style="fill:{hue}">{name}</text>')
    parts += [f'<text x="{x}" y="{y}" text-anchor="{a}" class="small">{t}</text>' for x, y, a, t in (
        (34, 26, "end", "1"), (34, 154, "end", "0"), (40, 166, "middle", "0"), (480, 166, "middle", "1"))]  # fmt: skip
    parts.append('<text x="260" y="168" text-anchor="middle" class="i">γ</text>')
    return _svg(500, 176, parts)


def yolo11(_arrays: Arrays) -> str:
    """Draw the layers of YOLO11, its own attention, and the place P5 of a graft."""
    backbone = ["Conv", "Conv", "C3k2", "Conv", "C3k2", "Conv", "C3k2", "Conv", "C3k2", "SPPF", "C2PSA"]
    neck = [
        "Upsample",
        "Concat",
        "C3k2",
        "Upsample",
        "Concat",
        "C3k2",
        "Conv",
        "Concat",
        "C3k2",
        "Conv",
        "Concat",
        "C3k2",
    ]
    places = {4: "P3/8", 6: "P4/16", 10: "P5/32"}
    parts = [_chain(n, 12 + 70 * n, 46, name, "own" if name == "C2PSA" else "box") for n, name in enumerate(backbone)]
    parts += [_chain(11 + n, 12 + 70 * n, 132, name, "box") for n, name in enumerate(neck)]
    parts += [
        f'<text x="{12 + 70 * n + 31}" y="40" text-anchor="middle" class="small">{name}</text>'
        for n, name in places.items()
    ]
    parts += [
        f'<path class="line" d="M{12 + 70 * n + 62} {y}h8"/>'
        for y, count in ((65, 11), (151, 11))
        for n in range(count)
    ]
    parts.append('<rect class="here" x="782" y="46" width="96" height="38" rx="6"/>')
    parts.append('<text x="830" y="70" text-anchor="middle">x + γ f(x)</text>')
    parts.append('<path class="line" d="M830 84V108H43V132"/>')
    parts += [
        f'<text x="{12 + 70 * n + 31}" y="184" text-anchor="middle" class="small">+ {source}</text>'
        for n, source in ((1, 6), (4, 4), (7, 13), (10, 10))
    ]
    parts.append(
        '<rect class="box" x="362" y="200" width="482" height="32" rx="6"/><text x="603" y="221" text-anchor="middle">23 · Detect</text>'
    )
    parts += [f'<path class="line" d="M{12 + 70 * n + 31} 170V200"/>' for n in (5, 8, 11)]
    return _svg(890, 246, parts)


def _chain(number: int, left: int, top: int, name: str, kind: str) -> str:
    return (
        f'<rect class="{kind}" x="{left}" y="{top}" width="62" height="38" rx="6"/><text x="{left + 31}" y="{top + 15}" text-anchor="middle" class="small">{number}</text>'
        f'<text x="{left + 31}" y="{top + 31}" text-anchor="middle" style="font-size:12px">{name}</text>'
    )


DRAWN: dict[str, Callable[[Arrays], str]] = {
    "scene": scene, "terms": terms, "scale": scale, "mix": mix, "heads": heads, "copied": copied, "gamma": gamma, "yolo11": yolo11,
}  # fmt: skip


def _maps(arrays: Arrays, at: Asked, maps: Sequence[Map]) -> str:
    image = base64.b64encode(arrays[f"png{at.scene}"].tobytes()).decode()
    parts = [
        f'<defs><image id="x" width="{TILE}" height="{TILE}" href="data:image/png;base64,{image}" style="image-rendering:pixelated"/></defs>'
    ]
    for n, one in enumerate(maps):
        left = GAP + n * (TILE + GAP)
        parts.append(f'<text x="{left}" y="18">{escape(one.title)}</text><g transform="translate({left} {TOP})">')
        if one.values is None:
            parts.append('<use href="#x"/>')
        else:
            most = one.most or float(abs(one.values).max())
            parts += ['<g shape-rendering="crispEdges">', *_cells(one.values / most), "</g>"]
            low = f"−{most:.2f}" if one.signed else "0"
            parts.append(f'<text x="0" y="{TILE + 16}" class="small">{low} … {most:.2f}</text>')
        parts += [
            _outline(box, "#fff")
            for box in (arrays["cue"][at.scene], *arrays["box"][arrays["object"][:, 0] == at.scene])
        ]
        parts.append(f"{_cell(at.query, '')}{_cell(at.key, '3 2') if one.values is not None else ''}</g>")
    return _svg(GAP + len(maps) * (TILE + GAP), TOP + TILE + 24, parts)


def _cells(shares: NDArray[np.float64]) -> list[str]:
    step = TILE / SIDE
    return [
        f'<rect x="{(n % SIDE) * step:g}" y="{(n // SIDE) * step:g}" width="{step:g}" height="{step:g}" fill="{_colour(share)}"/>'
        for n, share in enumerate(shares)
    ]


def _colour(share: float) -> str:
    """Return the colour of a share from -1 to 1."""
    stops = np.array(NEGATIVE if share < 0 else POSITIVE)
    place = min(1.0, abs(float(share))) * (len(stops) - 1)
    at = [np.interp(place, range(len(stops)), stops[:, c]) for c in range(3)]
    return "#" + "".join(f"{round(float(c)):02x}" for c in at)


def _outline(box: Sequence[float], hue: str) -> str:
    left, top, right, bottom = (float(side) * TILE / PIXELS for side in box)
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" fill="none" stroke="{hue}"/>'


def _cell(cell: int, dash: str) -> str:
    step = TILE / SIDE
    at = f'x="{(cell % SIDE) * step:g}" y="{(cell // SIDE) * step:g}" width="{step:g}" height="{step:g}" fill="none"'
    hue = "#ffd33d" if dash else "#fff"
    return f'<rect {at} stroke="#000" stroke-width="4"/><rect {at} stroke="{hue}" stroke-width="2" stroke-dasharray="{dash}"/>'


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"><style>{STYLE}</style>'
        f'<rect class="paper" width="{width}" height="{height}"/>{"".join(parts)}</svg>\n'
    )
