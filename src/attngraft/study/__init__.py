"""Studies: does an arm beat the baseline on this data, by how much, at what cost, and how sure are we?

Names are loaded when first used, so that the command line stays quick.
"""

import lazy_loader

from attngraft._core.extras import naming_extra

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = naming_extra(__getattr__, "study")
