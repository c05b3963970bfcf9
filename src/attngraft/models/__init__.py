"""The papers' own networks, built from `attngraft.attention`; nothing here knows a YOLO."""

from attngraft.models._registry import ModelRecord, create, models, names, record
from attngraft.models._stages import Stages
from attngraft.models._weights import Shared, load_shared, load_timm
from attngraft.models.botnet import BoTBlock, BoTNet
from attngraft.models.detection import fasterrcnn, maskrcnn
from attngraft.models.dilateformer import DilateFormer
from attngraft.models.flatten_pvt import FLattenPVT, FLattenPVTv2
from attngraft.models.flatten_swin import FLattenSwin
from attngraft.models.hat import HAT
from attngraft.models.mobilenet import MobileNetV3

__all__ = [
    "HAT",
    "BoTBlock",
    "BoTNet",
    "DilateFormer",
    "FLattenPVT",
    "FLattenPVTv2",
    "FLattenSwin",
    "MobileNetV3",
    "ModelRecord",
    "Shared",
    "Stages",
    "create",
    "fasterrcnn",
    "load_shared",
    "load_timm",
    "maskrcnn",
    "models",
    "names",
    "record",
]
