"""Any module to ONNX, OpenVINO or TorchScript, with proof that the file gives the module's numbers."""

from attngraft.export.exported import Exported, load
from attngraft.export.formats import to_onnx, to_openvino, to_torchscript
from attngraft.export.parity import Bound, Deviation, OutputDeviation, parity, require_parity

__all__ = [
    "Bound",
    "Deviation",
    "Exported",
    "OutputDeviation",
    "load",
    "parity",
    "require_parity",
    "to_onnx",
    "to_openvino",
    "to_torchscript",
]
