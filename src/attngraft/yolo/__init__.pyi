from .detecting import Detections as Detections
from .detecting import detect as detect
from .exporting import ExportRecord as ExportRecord
from .exporting import export as export
from .model import YOLO as YOLO
from .model import graft as graft
from .placing import places as places
from .recipe import GraftSpec as GraftSpec
from .recipe import Recipe as Recipe
from .training import train as train

__all__ = ["YOLO", "Detections", "ExportRecord", "GraftSpec", "Recipe", "detect", "export", "graft", "places", "train"]
