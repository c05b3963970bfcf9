"""See what the attention of a detector mixed, what its detections rest on, and what its grafts do.

The numbers are those of `attngraft.maps`; here they become arrays, one self-contained page, and figures.
"""

from attngraft._core.callables import call_package
from attngraft.look.arrays import Attention, Baseline, Curves, Gate, Graft, ImageLook, Relevance
from attngraft.look.asking import look
from attngraft.look.result import Look

__all__ = ["Attention", "Baseline", "Curves", "Gate", "Graft", "ImageLook", "Look", "Relevance", "look"]

call_package(__name__, look)
