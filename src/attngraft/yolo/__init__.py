"""Grafts for Ultralytics models; the only folder that knows Ultralytics.

Names are loaded when first used: the hook into Ultralytics runs while Ultralytics itself is still being imported.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
