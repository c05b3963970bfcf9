"""The table of checks on a whole detector, cheap ones first; imports Ultralytics."""

from __future__ import annotations

from attngraft.doctor.detector.deployment import (
    data,
    gpu_workers,
    memory_at_largest,
    memory_of_exports,
    onnx,
    openvino,
    reload,
    torchscript,
    true_flops,
)
from attngraft.doctor.detector.numbers import (
    averaged_copy,
    batches,
    fuse,
    gradients,
    half_precision,
    identity,
    image_sizes,
    mechanisms,
    one_image,
    opens,
    rebuild,
    same_seed,
    training,
)
from attngraft.doctor.detector.subject import DetectorSubject
from attngraft.doctor.findings import Check

DETECTOR_CHECKS: tuple[Check[DetectorSubject], ...] = (
    opens,
    data,
    mechanisms,
    rebuild,
    same_seed,
    identity,
    image_sizes,
    gradients,
    training,
    batches,
    one_image,
    half_precision,
    fuse,
    averaged_copy,
    true_flops,
    memory_at_largest,
    memory_of_exports,
    torchscript,
    onnx,
    openvino,
    reload,
    gpu_workers,
)
