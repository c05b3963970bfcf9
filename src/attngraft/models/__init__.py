"""The papers' own networks, built from `attngraft.attention`; nothing here knows a YOLO."""

from attngraft.models._registry import ModelRecord, create, models, names, record
from attngraft.models._stages import Stages
from attngraft.models.botnet import BoTBlock, BoTNet

__all__ = ["BoTBlock", "BoTNet", "ModelRecord", "Stages", "create", "models", "names", "record"]
