"""Training the papers' own networks with Lightning: ``attngraft fit``.

Names are loaded when first used, so that the command line stays quick.
"""

import lazy_loader

from attngraft._core.extras import naming_extra

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = naming_extra(__getattr__, "fit")
