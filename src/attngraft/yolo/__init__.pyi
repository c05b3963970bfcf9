from .model import YOLO as YOLO
from .model import graft as graft
from .recipe import GraftSpec as GraftSpec
from .recipe import Recipe as Recipe

__all__ = ["YOLO", "GraftSpec", "Recipe", "graft"]
