"""The papers' own networks, built from `attngraft.attention`; nothing here knows a YOLO."""

from attngraft.models._registry import ModelRecord, create, models, names, record
from attngraft.models.dilateformer import DilateFormer
from attngraft.models.flatten_pvt import FLattenPVT, FLattenPVTv2
from attngraft.models.flatten_swin import FLattenSwin
from attngraft.models.hat import HAT

__all__ = [
    "HAT",
    "DilateFormer",
    "FLattenPVT",
    "FLattenPVTv2",
    "FLattenSwin",
    "ModelRecord",
    "create",
    "models",
    "names",
    "record",
]
