"""The papers' own networks, built from `attngraft.attention`; nothing here knows a YOLO."""

from attngraft.models._registry import ModelRecord, create, models, names, record

__all__ = ["ModelRecord", "create", "models", "names", "record"]
