"""Attention for object detectors: graft any mechanism into any YOLO, and find out honestly whether it helped.

Importing this package is quick and loads neither PyTorch nor Ultralytics; names are loaded when they are first used.
From then on a model YAML may name our mechanisms, and a checkpoint that holds one loads.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# The last: where Ultralytics is loaded already it joins at once, and a user's plugin then asks this package for names.
from attngraft import _join as _join  # noqa: E402
