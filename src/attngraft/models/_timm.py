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
OUR_NAMES = {
    "in_chans": "in_channels",
    "img_size": "image_size",
    "drop_rate": "dropout",
    "drop_path_rate": "drop_path",
    "global_pool": "global_pool",
}
"""What timm calls options of ours, and options that its scripts always pass."""

WITHOUT_EFFECT: dict[str, Callable[[Any], bool]] = {
    "image_size": lambda size: True,  # images may have any size, and there is no table to be made for one
    "dropout": lambda rate: not rate,
    "drop_path": lambda rate: not rate,
    "global_pool": lambda pool: pool == "avg",
}
"""Which values a model without that option does as they say, because it does so anyway."""

USUAL_SIZE = 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

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
        stages = len(body.channels)
        if not all(-stages <= index < stages for index in out_indices):
            raise OptionError(f"features_only needs out_indices of 0 to {stages - 1}, got {tuple(out_indices)}")
        self.body = body
        self.out_indices = tuple(index % stages for index in out_indices)
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
        options = _translated(record, {k: v for k, v in options.items() if k not in HUB_OPTIONS})
        if features_only:
            return StageMaps(record.build(**{**options, "num_classes": 0}), out_indices)
        return _introduced(record.build(**options))

    build.__name__ = build.__qualname__ = PREFIX + record.name
    build.__doc__ = record.about
    return build


def _translated(record: ModelRecord, options: dict[str, Any]) -> dict[str, Any]:
    """Name options as the model does, and leave out what it does without being told.

    Raises:
        OptionError: If timm's option asks for what the model does not have.
    """
    translated = {}
    for theirs, value in options.items():
        ours = OUR_NAMES.get(theirs, theirs)
        if theirs not in OUR_NAMES or ours in record.options:
            translated[ours] = value
        elif not WITHOUT_EFFECT[ours](value):
            maps = (
                "; features_only=True gives maps that are not pooled" if theirs == "global_pool" and not value else ""
            )
            raise OptionError(f"{PREFIX}{record.name} has nothing to set by {theirs}={value!r}; leave it out{maps}")
    return translated


def _introduced(net: Any) -> nn.Module:
    """Note on a model what timm's scripts read from one: the width of its features, and how images are prepared."""
    size = getattr(net, "image_size", USUAL_SIZE)
    height, width = size if isinstance(size, tuple) else (size, size)
    net.num_features = net.channels[-1]
    net.pretrained_cfg = net.default_cfg = {
        "url": "",
        "num_classes": net.num_classes,
        "input_size": (net.in_channels, height, width),
        "fixed_input_size": False,
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }
    module: nn.Module = net
    return module
