from ._core.plugins import load_plugin as load_plugin
from ._core.registry import Mechanism as Mechanism
from .attention import info as info
from .attention import names as names
from .attention import register as register
from .bench import bench as bench
from .doctor import doctor as doctor
from .fit import Fit as Fit
from .look import look as look
from .probe import probe as probe
from .study import Plan as Plan
from .study import Study as Study
from .yolo import YOLO as YOLO
from .yolo import Recipe as Recipe
from .yolo import graft as graft

__version__: str

__all__ = [
    "YOLO",
    "Fit",
    "Mechanism",
    "Plan",
    "Recipe",
    "Study",
    "bench",
    "doctor",
    "graft",
    "info",
    "load_plugin",
    "look",
    "names",
    "probe",
    "register",
]
