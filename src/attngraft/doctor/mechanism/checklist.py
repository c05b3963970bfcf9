"""The table of checks on a mechanism, cheap ones first; `attngraft.doctor.detector` has that of whole detectors."""

from __future__ import annotations

from attngraft.doctor.findings import Check
from attngraft.doctor.mechanism.resources import memory_growth, true_flops
from attngraft.doctor.mechanism.shapes import builds, channels_last, host, sizes, widths
from attngraft.doctor.mechanism.subject import Subject
from attngraft.doctor.mechanism.survival import deepcopy, onnx, openvino, reload, torchscript, training_after_validation
from attngraft.doctor.mechanism.values import (
    batch,
    dead_maps,
    gradient,
    half_precision,
    input_kept,
    one_image,
    repeats,
    training,
)

MODULE_CHECKS: tuple[Check[Subject], ...] = (
    builds,
    sizes,
    input_kept,
    repeats,
    widths,
    host,
    gradient,
    dead_maps,
    training,
    half_precision,
    batch,
    one_image,
    deepcopy,
    training_after_validation,
    channels_last,
    true_flops,
    memory_growth,
    torchscript,
    onnx,
    openvino,
    reload,
)
