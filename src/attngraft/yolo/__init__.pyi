from .exporting import ExportRecord as ExportRecord
from .exporting import export as export
from .model import YOLO as YOLO
from .model import graft as graft
from .recipe import GraftSpec as GraftSpec
from .recipe import Recipe as Recipe

__all__ = ["YOLO", "ExportRecord", "GraftSpec", "Recipe", "export", "graft"]
