"""Our classifiers under timm's roof: ``timm.create_model("attngraft_botnet50", features_only=True)``.

Entered as soon as timm is imported, and timm is never imported for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from attngraft._core.errors import OptionError
from attngraft.models._registry import ModelRecord, models
from attngraft.models._stages import Stages

PREFIX = "attngraft_"
OUR_NAMES = {"in_chans": "in_channels", "img_size": "image_size"}
"""What timm calls the options that all our classifiers have."""

HUB_OPTIONS = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
"""What timm passes to say where weights come from."""


class StageMaps(nn.Module):
    """A classifier without its classes, as timm's ``features_only`` gives it.

    Args:
        body: The classifier.
        out_indices: Which stages to give.

    Shape:
        - Input: ``(B, in_channels, H, W)``
        - Output: a list of ``(B, C_i, H_i, W_i)``
    """

    def __init__(self, body: nn.Module, out_indices: Sequence[int]) -> None:
        from timm.models import FeatureInfo

        super().__init__()
        if not isinstance(body, Stages):
            raise OptionError(
                f"features_only needs a model that gives the maps of its stages, not {type(body).__name__}"
            )
        self.body = body
        self.out_indices = tuple(out_indices)
        info = [
            {"num_chs": channels, "reduction": stride, "module": f"stage {stage}"}
            for stage, (channels, stride) in enumerate(zip(body.channels, body.strides, strict=True))
        ]
        self.feature_info = FeatureInfo(info, self.out_indices)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps."""
        maps = self.body.forward_features(x)
        return [maps[index] for index in self.out_indices]


def enter_all() -> None:
    """Enter every classifier of the table in timm's registry."""
    from timm.models import register_model

    for record in models().values():
        if record.task == "classify":
            register_model(_entrypoint(record))


def _entrypoint(record: ModelRecord) -> Callable[..., nn.Module]:
    def build(
        pretrained: bool = False,
        features_only: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        **options: Any,
    ) -> nn.Module:
        if pretrained:
            raise OptionError(f"there are no weights of {PREFIX}{record.name} to be had; use pretrained=False")
        options = {OUR_NAMES.get(k, k): v for k, v in options.items() if k not in HUB_OPTIONS}
        if features_only:
            return StageMaps(record.build(**{**options, "num_classes": 0}), out_indices)
        return record.build(**options)

    build.__name__ = build.__qualname__ = PREFIX + record.name
    build.__doc__ = record.about
    return build
