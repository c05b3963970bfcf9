"""The papers' own networks, built from `attngraft.attention`; nothing here knows a YOLO."""

from attngraft.models._registry import ModelRecord, create, models, names, record
from attngraft.models.dilateformer import DilateFormer

__all__ = [
    "DilateFormer",
    "ModelRecord",
    "create",
    "models",
    "names",
    "record",
]
