"""The table of checks on a whole detector, cheap ones first; imports the host."""

from __future__ import annotations

from attngraft.doctor.detector import Patient
from attngraft.doctor.findings import Check
from attngraft.doctor.training import (
    averaged_copy,
    batches,
    fuse,
    gradients,
    half_precision,
    identity,
    mechanisms,
    opens,
    picture_sizes,
    rebuild,
    same_seed,
    training,
)
from attngraft.doctor.whole import (
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

DETECTOR_CHECKS: tuple[Check[Patient], ...] = (
    opens,
    data,
    mechanisms,
    rebuild,
    same_seed,
    identity,
    picture_sizes,
    gradients,
    training,
    batches,
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
