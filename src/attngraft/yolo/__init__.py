"""Grafts for Ultralytics models, behind six verbs; the only package that imports Ultralytics.

`YOLO` opens a model by its recipe, `places` says where a graft can go, `graft` writes a checkpoint, and `train`,
`detect` and `export` are a study's and a user's ways through Ultralytics.

Names are loaded when first used: the hook into Ultralytics runs while Ultralytics itself is still being imported.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
