"""The table of probes: what each asks, how its images are drawn, and what its control asks of the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from numpy.random import Generator

from attngraft._core.errors import UnknownNameError
from attngraft.data.painting import COLOURS
from attngraft.data.probes.colours import reach_scene, statistics_scene, xor_scene
from attngraft.data.probes.corners import (
    MARGIN,
    SHAPES,
    SIDE,
    comparison_scene,
    count_scene,
    far_relation_scene,
    majority_scene,
    relation_scene,
)
from attngraft.data.scenes import BEACON_SIDE, LEGEND_SIDE, Scene, beacon_scene, legend_scene


@dataclass(frozen=True)
class Probe:
    """A question that an object's own surroundings cannot answer, on generated images.

    Attributes:
        name: Its name.
        asks: What tells the class of an object, in a few words.
        needs: What a mechanism has to do for it.
        draw: Draws an image: `Thing.far` is the class, `Thing.near` the class of the control.
        side: Width and height of an image, in pixels.
        classes: Names of the two classes.
        control_classes: Names of the control's two classes.
    """

    name: str
    asks: str
    needs: str
    draw: Callable[[Generator], Scene]
    side: int = SIDE
    classes: tuple[str, str] = COLOURS
    control_classes: tuple[str, str] = COLOURS

    def scene(self, rng: Generator, _: int) -> Scene:
        """Draw an image; a probe has one side."""
        return self.draw(rng)


_ALL = (
    Probe(
        "global",
        "the colour of a beacon in a far corner",
        "bring one far cue to every object",
        partial(beacon_scene, side=BEACON_SIDE),
        BEACON_SIDE,
    ),
    Probe(
        "legend",
        "the colour beside the object's glyph in a far strip of four",
        "look up by content",
        partial(legend_scene, side=LEGEND_SIDE),
        LEGEND_SIDE,
    ),
    Probe(
        "statistics",
        "the tint that most of the far background has",
        "sum up what is far",
        statistics_scene,
    ),
    Probe(
        "reach",
        "the colour of a square 4 to 67 pixels away",
        "see as far as the square is",
        reach_scene,
    ),
    Probe(
        "relation",
        "whether a far square lies along the object's row or its column",
        "tell directions apart, where padding tells each cell its place",
        relation_scene,
        classes=("row", "column"),
    ),
    Probe(
        "relbig",
        "the same with every border out of reach",
        "tell directions apart where no padding tells places",
        far_relation_scene,
        SIDE + 2 * MARGIN,
        ("row", "column"),
    ),
    Probe(
        "majority",
        "the colour that most of the other three objects' dots have",
        "sum up all others and leave oneself out, the diagonal corner included",
        majority_scene,
    ),
    Probe(
        "count",
        "whether there are three or four objects, or fewer",
        "count over the whole image",
        count_scene,
        classes=("few", "many"),
    ),
    Probe(
        "comparison",
        "whether the object's value is above or below that of far squares",
        "compare oneself with a far sum",
        comparison_scene,
        classes=("below", "above"),
        control_classes=SHAPES,
    ),
    Probe(
        "xor",
        "whether the object's dot has the colour of a far beacon",
        "combine what is near with what is far, not add it",
        xor_scene,
        classes=("same", "other"),
    ),
)

PROBES = MappingProxyType({probe.name: probe for probe in _ALL})
"""Every probe by name."""


def probe_named(name: str) -> Probe:
    """Look a probe up.

    Raises:
        UnknownNameError: If there is none of that name; names the nearest.
    """
    if name not in PROBES:
        raise UnknownNameError("probe", name, PROBES)
    return PROBES[name]
