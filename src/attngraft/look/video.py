"""One detection followed through a video: what its class rests on, drawn over each frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw

from attngraft import maps
from attngraft._core.checks import not_negative
from attngraft._core.errors import DataError, OptionError, OutputError
from attngraft._core.files import free_file, write_whole
from attngraft._core.progress import SILENT, Progress
from attngraft.drawing import PALETTE, Box, font_for, mark
from attngraft.look.arrays import Array
from attngraft.look.asking import checked_settings, open_subject
from attngraft.look.drawn import colours, opaque, shown_score
from attngraft.look.images import Pixels, local
from attngraft.maps import Detection, Prepared, Subject

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
"""What is written; OpenCV has both built in."""
SAME = 0.3
"""Intersection over union of the boxes of one object in two frames that follow each other."""
USUAL_RATE = 25.0
BAR = 22
"""Pixels of the line with words above each frame."""


@dataclass(frozen=True)
class Film:
    """A video that was written.

    Attributes:
        file: The file.
        frames: How many frames it has.
        followed: In how many of them the detection was found.
        missing: How many more the video says that it has; more than one where its end is cut off.
    """

    file: Path
    frames: int
    followed: int
    missing: int = 0

    def __str__(self) -> str:
        said = f"{self.file} written; the detection was followed in {self.followed} of {self.frames} frames"
        if self.missing > 1:
            said += f"; the video says that it has {self.missing} more, which cannot be read: its end may be cut off"
        return said


def is_video(path: str | Path) -> bool:
    """Tell by its suffix whether a file is a video."""
    return Path(path).suffix.lower() in SUFFIXES


def film(
    model: Any,
    clip: str | Path,
    out: str | Path = "look.mp4",
    *,
    frame: int = 0,
    detection: int = 0,
    imgsz: int | Sequence[int] | None = None,
    confidence: float = 0.25,
    layers: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Film:
    """Follow one detection through a video, and write what its class rests on over each frame.

    The detection of the next frame is the one of its class whose box overlaps the last one most, by an IoU of .3 or
    more. Where there is none, the frame is written without a map, and the search goes on from the last box. Each map
    has its own scale, whose end is written above the frame.

    Args:
        model: As in `attngraft.look`.
        clip: The video.
        out: The file to write, ``.mp4`` or ``.avi``; the next free name is taken if it exists.
        frame: Number of the frame that it starts from, from 0.
        detection: Number of the detection in that frame, the surest being 0.
        imgsz: Side of the input, or its height and width; None takes that of the training run.
        confidence: Least score of a detection.
        layers: The layer of ODAM; by default the one before the first attention or gate.
        progress: Whom to tell what is being done.

    Raises:
        DataError: If the video cannot be opened, or has no such frame.
        OptionError: If the frame has no such detection, or an option makes no sense.
        OutputError: If the file cannot be written.
    """
    settings = checked_settings(imgsz, confidence, 1, layers)
    not_negative("look", frame=frame, detection=detection)
    file = Path(out)
    if file.suffix not in CODECS:
        raise OptionError(f"look writes videos as {' or '.join(CODECS)}, got {file}; choose one of these suffixes")
    with _frames(local(clip)) as (frames, rate, count):
        for _ in range(frame):
            if next(frames, None) is None:
                raise DataError(f"{clip} has no frame {frame + 1}; choose an earlier one with frame=")
        first = next(frames, None)
        if first is None:
            raise DataError(f"{clip} has no frame {frame + 1}; choose an earlier one with frame=")
        subject = open_subject(model)
        layer = _layer(subject, settings.layers)
        follower = _Follower(subject, layer, settings.imgsz, confidence)
        start = follower.choose(first, detection, frame)
        file, written, followed = free_file(file), [0], [0]

        def fill(partial: Path) -> None:
            height, width = start.shape[:2]
            writer = cv2.VideoWriter(str(partial), cv2.VideoWriter.fourcc(*CODECS[file.suffix]), rate, (width, height))
            if not writer.isOpened():
                raise OutputError(f"{file} cannot be written as a video; choose another folder, or .avi")
            try:
                shown: Pixels | None = start
                while shown is not None:
                    writer.write(cv2.cvtColor(shown, cv2.COLOR_RGB2BGR))
                    written[0] += 1
                    followed[0] += follower.found
                    progress.started(f"frame {frame + written[0]} of {count or '?'}")
                    following = next(frames, None)
                    shown = None if following is None else follower.draw(following)
            finally:
                writer.release()

        write_whole(file, fill)
    return Film(file, written[0], followed[0], max(0, count - frame - written[0]))


@contextmanager
def _frames(clip: Path) -> Iterator[tuple[Iterator[Pixels], float, int]]:
    """Open a video: its frames, red first, their number a second, and how many it says that it has."""
    if not clip.is_file():
        raise DataError(f"{clip} cannot be read: there is no such file")
    reader = cv2.VideoCapture(str(clip))
    try:
        done, first = reader.read() if reader.isOpened() else (False, None)
        if not done or first is None:
            raise DataError(f"{clip} is not a video that can be opened; give an MP4 or AVI file")
        rate = float(reader.get(cv2.CAP_PROP_FPS))
        count = int(max(0, reader.get(cv2.CAP_PROP_FRAME_COUNT)))

        def rest() -> Iterator[Pixels]:
            frame: Any = first
            more = True
            while more:
                yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
                more, frame = reader.read()

        yield rest(), rate if math.isfinite(rate) and rate > 0 else USUAL_RATE, count
    finally:
        reader.release()


def _layer(subject: Subject, layers: Sequence[str]) -> str:
    tape = maps.Tape(subject.network)
    known = [*layers, *subject.layers_before([*tape.attentions, *tape.gates]), *subject.layers]
    if not known:
        raise OptionError("a network that enlarges images detects nothing to follow; give an image")
    return known[0]


class _Follower:
    """Finds one object again in each frame, and draws what its class rests on.

    Args:
        subject: The model.
        layer: The layer of ODAM.
        imgsz: Side of the input.
        confidence: Least score of a detection.

    Attributes:
        found: Whether it was found in the last frame.
    """

    def __init__(self, subject: Subject, layer: str, imgsz: int | tuple[int, int] | None, confidence: float) -> None:
        self._subject, self._layer, self._imgsz, self._confidence = subject, layer, imgsz, confidence
        self._last: Detection
        self.found = False

    def choose(self, frame: Pixels, number: int, at: int) -> Pixels:
        """Draw the frame in which the detection is chosen by its number."""
        prepared, detections = self._detected(frame)
        if number >= len(detections):
            raise OptionError(
                f"frame {at + 1} has {len(detections)} detections of {self._confidence} or more, got "
                f"detection={number + 1}; choose another frame= or a lower confidence="
            )
        self._last = detections[number]
        return self._drawn(frame, prepared, self._last)

    def draw(self, frame: Pixels) -> Pixels:
        """Draw a frame that follows."""
        prepared, detections = self._detected(frame)
        same = [d for d in detections if d.label == self._last.label]
        boxes = torch.tensor([d.box for d in same], dtype=torch.float64).reshape(-1, 4)
        overlap = maps.intersection_over_union(boxes, boxes.new_tensor([self._last.box]))[:, 0]
        if not len(overlap) or float(overlap.max()) < SAME:
            return self._drawn(frame, prepared, None)
        self._last = same[int(overlap.argmax())]
        return self._drawn(frame, prepared, self._last)

    def _detected(self, frame: Pixels) -> tuple[Prepared, list[Detection]]:
        prepared = self._subject.prepare(frame, self._imgsz)
        return prepared, self._subject.find(prepared.tensor, confidence=self._confidence)[0]

    def _drawn(self, frame: Pixels, prepared: Prepared, detection: Detection | None) -> Pixels:
        self.found = detection is not None
        name = str(self._subject.names.get(self._last.label, self._last.label))
        if detection is None:
            return _worded(Image.fromarray(frame), f"{name}: not found in this frame")
        with self._subject.only([detection]):
            heat = maps.odam(
                self._subject.network, self._subject.predict, prepared.tensor, [detection.target()], [self._layer],
                allow_unused=True,
            )[self._layer][0]  # fmt: skip
        shown = Image.fromarray(overlaid(frame, heat.detach().float().cpu().numpy(), prepared))
        left, top, right, bottom = prepared.back(detection.box)
        mark(shown, [Box(left, top, right, bottom, detection.label)], class_names=None, colours=PALETTE)
        most = f"ODAM of the class at {self._layer}, strongest {float(heat.max()):.3g}"
        return _worded(shown, f"{name} {shown_score(detection.score)} · {most}")


def overlaid(frame: Pixels, heat: Array, prepared: Prepared) -> Pixels:
    """Lay a map of the model's input over the image that it was made from, each at its place.

    Args:
        frame: ``(H, W, 3)``.
        heat: The map, ``(h, w)``, from 0 up.
        prepared: How the image was given to the model.
    """
    height, width = prepared.tensor.shape[2:]
    top = float(heat.max())
    shares = heat / top if top > 0 else heat
    large = cv2.resize(shares.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
    place = np.array([[prepared.scale[0], 0, prepared.offset[0]], [0, prepared.scale[1], prepared.offset[1]]])
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    own = np.asarray(cv2.warpAffine(large, place, (frame.shape[1], frame.shape[0]), flags=flags), np.float32)
    grey = np.asarray(Image.fromarray(frame).convert("L"), np.float32)[..., None]
    opacity = opaque(own)[..., None]
    return np.asarray((grey * 0.75 * (1 - opacity) + colours(own) * opacity).clip(0, 255), np.uint8)


def _worded(frame: Image.Image, text: str) -> Pixels:
    """Write a line above a frame; sides are made even, which codecs ask for."""
    made = Image.new("RGB", (frame.width + frame.width % 2, frame.height + BAR + frame.height % 2), "black")
    made.paste(frame, (0, BAR))
    ImageDraw.Draw(made).text((4, 3), text, "white", font_for(text, 13))
    return np.asarray(made, np.uint8)
