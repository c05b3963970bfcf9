"""How the state of each widely copied class becomes that of our mechanism; `copied` reads the files they are in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from attngraft._core.registry import mechanism
from attngraft.yolo.copied_parts import (
    COLUMN_MEANS,
    FLATTEN,
    LEAKY,
    MAXIMA,
    MEANS,
    PLANES,
    RELU,
    ROW_MEANS,
    SIGMOID,
    Place,
    fits,
    hard_swish,
    own_name,
    softmax,
)

Translate = Callable[[Mapping[str, Any], dict[str, Tensor]], "nn.Module | None"]

UNKNOWN = 0
"""Width of a mechanism until it has seen a map."""


def _renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor] | None:
    """Rename tensors by the beginnings of their names; None unless exactly these are there."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        own = own_name(name, names)
        if not own:
            return None
        found[own] = value
    return found if {name.split(".")[0] for name in found} == {new.split(".")[0] for new in names.values()} else None


def _filled(module: nn.Module, tensors: Mapping[str, Tensor] | None) -> nn.Module | None:
    """Load a state whose tensors may have another rank, as those of a 1x1 convolution and a linear layer."""
    if tensors is None:
        return None
    own = module.state_dict()
    if set(own) != set(tensors) or any(own[name].numel() != tensors[name].numel() for name in own):
        return None
    module.load_state_dict({name: tensors[name].reshape(own[name].shape) for name in own})
    return module


def _taken(
    state: Mapping[str, Any],
    module: nn.Module,
    tensors: Mapping[str, Tensor] | None,
    names: Mapping[str, str],
    form: Sequence[str | Place],
) -> nn.Module | None:
    """Load a renamed state, if the class has no parts but those of the form."""
    filled = _filled(module, tensors)
    return filled if filled is not None and fits(state, filled, names, form) else None


def _keep_norm(module: nn.Module, old: Any, name: str = "norm") -> None:
    """Give a norm the settings of the one whose place it takes: Ultralytics changes eps and momentum of its own."""
    norm: Any = module.get_submodule(name)
    norm.eps = old.eps
    if hasattr(old, "momentum"):
        norm.momentum = old.momentum


def _of_unknown_width(module: Any) -> Any:
    """Mark a mechanism whose copied class is not told its width; `find_widths` finds it."""
    if module is not None:
        module.channels = UNKNOWN
    return module


def _se(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    form = (MEANS, FLATTEN, "squeeze", RELU, "excite", SIGMOID)
    for first, second in (("fc.0", "fc.2"), ("fc1", "fc2"), ("excitation.0", "excitation.2"), ("l1", "l2")):
        names = {first: "squeeze", second: "excite"}
        renamed = _renamed(tensors, names)
        if renamed is not None and "squeeze.weight" in renamed and renamed["squeeze.weight"].shape[2:].numel() == 1:
            hidden, channels = renamed["squeeze.weight"].shape[:2]
            se = mechanism("se").cls(channels, reduction=channels // hidden, bias="squeeze.bias" in renamed)
            return _taken(state, se, renamed, names, form)
    return None


def _eca(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    kernel = tensors.get("conv.weight")
    if kernel is None or kernel.dim() != 3:
        return None
    eca = mechanism("eca").cls(1, kernel_size=kernel.shape[2])
    return _of_unknown_width(_taken(state, eca, tensors, {"conv": "conv"}, (MEANS, "conv", SIGMOID)))


def _ema(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    groups = state.get("groups", state.get("factor"))
    if not isinstance(groups, int) or "conv1x1.weight" not in tensors:
        return None
    form = (MEANS, ROW_MEANS, COLUMN_MEANS, softmax, SIGMOID, "conv1x1", "conv3x3", "gn")
    names = {name: name for name in ("conv1x1", "conv3x3", "gn")}
    own = mechanism("ema").cls(groups * tensors["conv1x1.weight"].shape[0], groups=groups)
    ema: Any = _taken(state, own, tensors, names, form)
    if ema is not None:
        ema.gn.eps = state["_modules"]["gn"].eps
    taken: nn.Module | None = ema
    return taken


def _simam(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    lam = state.get("e_lambda")
    if not isinstance(lam, (int, float)) or tensors:
        return None
    # The circulated class divides the squares by N - 1.
    simam = mechanism("simam").cls(1, e_lambda=float(lam), correction=1)
    return _of_unknown_width(_taken(state, simam, tensors, {}, (SIGMOID,)))


def _coord_attention(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    names = {"conv1": "squeeze", "bn1": "norm", "conv_h": "rows", "conv_w": "columns"}
    form = (ROW_MEANS, COLUMN_MEANS, "squeeze", "norm", hard_swish, "rows", "columns", SIGMOID)
    renamed = _renamed(tensors, names)
    # Copies differ in this activation: one that is not there as a module is not known.
    if renamed is None or not any(map(hard_swish, state["_modules"].values())):
        return None
    hidden, channels = renamed["squeeze.weight"].shape[:2]
    module: Any = mechanism("coord_attention").cls(channels)
    if module.hidden != hidden:
        module = mechanism("coord_attention").cls(channels, reduction=channels // hidden)
    filled = _taken(state, module, renamed, names, form)
    if filled is not None:
        _keep_norm(filled, state["_modules"]["bn1"])
    return filled


def _shuffle_attention(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    groups = state.get("G", state.get("groups"))
    names = {
        "cweight": "channel_weight", "cbias": "channel_bias", "sweight": "cell_weight", "sbias": "cell_bias",
        "gn": "norm",
    }  # fmt: skip
    renamed = _renamed(tensors, names)
    if renamed is None or not isinstance(groups, int):
        return None
    module = mechanism("shuffle_attention").cls(2 * groups * renamed["channel_weight"].numel(), groups=groups)
    filled = _taken(state, module, renamed, names, (MEANS, SIGMOID, "norm"))
    if filled is not None:
        _keep_norm(filled, state["_modules"]["gn"])
    return filled


MLPS = ("fc.0 fc.2", "fc1 fc2", "f1 f2", "shared_MLP.0 shared_MLP.2", "shared_mlp.0 shared_mlp.2", "mlp.0 mlp.2")
CONVS = ("conv1", "conv", "conv2d", "cv1")
"""Names of the layers of copied CBAM classes whose convolution reads the mean first."""

CBAM_PARTS = (MEANS, MAXIMA, "mlp.squeeze", LEAKY, "mlp.excite", SIGMOID, "spatial.conv", SIGMOID)


def _cbam(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    parts = state["_modules"]
    if "ChannelGate" in parts:
        return _official_cbam(state, tensors)
    for channel, spatial in (("ca", "sa"), ("channel_attention", "spatial_attention")):
        if channel not in parts or spatial not in parts:
            continue
        slope = _slope(parts[channel])
        for first, second in map(str.split, MLPS):
            for conv in CONVS:
                names = {
                    f"{channel}.{first}": "mlp.squeeze", f"{channel}.{second}": "mlp.excite",
                    f"{spatial}.{conv}": "spatial.conv",
                }  # fmt: skip
                renamed = _renamed(tensors, names)
                if renamed is not None and slope is not None:
                    weight = renamed["spatial.conv.weight"]
                    cbam = _bare_cbam({**renamed, "spatial.conv.weight": weight.flip(1)}, slope)
                    return cbam if cbam is not None and fits(state, cbam, names, CBAM_PARTS) else None
    return None


def _bare_cbam(tensors: dict[str, Tensor], slope: float) -> nn.Module | None:
    """Build a CBAM without batch norm, of a plane of maxima and one of means."""
    hidden, channels = tensors["mlp.squeeze.weight"].shape[:2]
    cbam = mechanism("cbam").cls(
        channels,
        reduction=channels // hidden,
        kernel_size=tensors["spatial.conv.weight"].shape[-1],
        bias="mlp.squeeze.bias" in tensors,
        spatial_bias="spatial.conv.bias" in tensors,
        norm="none",
        slope=slope,
    )
    return _filled(cbam, tensors)


def _official_cbam(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    parts = state["_modules"]
    names = {
        "ChannelGate.mlp.1": "mlp.squeeze", "ChannelGate.mlp.3": "mlp.excite",
        "SpatialGate.spatial.conv": "spatial.conv", "SpatialGate.spatial.bn": "spatial.norm",
    }  # fmt: skip
    form = (FLATTEN, "mlp.squeeze", RELU, "mlp.excite", PLANES, "spatial.conv", "spatial.norm")
    renamed = _renamed(tensors, names)
    if renamed is None or sorted(parts["ChannelGate"].pool_types) != ["avg", "max"]:
        return None
    hidden, channels = renamed["mlp.squeeze.weight"].shape
    kernel_size = renamed["spatial.conv.weight"].shape[-1]
    cbam = mechanism("cbam").cls(channels, reduction=channels // hidden, kernel_size=kernel_size)
    filled = _taken(state, cbam, renamed, names, form)
    if filled is not None:
        _keep_norm(filled, parts["SpatialGate"].spatial.bn, "spatial.norm")
    return filled


def _slope(gate: nn.Module) -> float | None:
    """Return the slope below zero of a channel gate's activation; None unless it and both pools are modules."""
    if not all(any(map(pool, gate.children())) for pool in (MEANS, MAXIMA)):
        return None
    if any(len(part) != 3 for part in gate.modules() if isinstance(part, nn.Sequential)):
        return None  # such as a sigmoid of its own for means and for maxima
    acting = next((part for part in gate.modules() if LEAKY(part)), None)
    return None if acting is None else float(getattr(acting, "negative_slope", 0.0))


def _gam(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    """Take the channel gate without a sigmoid, as most copies have it: their tensors do not tell."""
    names = {"channel_attention": "channel", "spatial_attention": "spatial"}
    form = ("channel.0", RELU, "channel.2", "spatial.0", "spatial.1", RELU, "spatial.3", "spatial.4")
    renamed = _renamed(tensors, names)
    if renamed is None:
        return None
    spatial = state["_modules"]["spatial_attention"]
    kernel_size = spatial[0].kernel_size[0]
    hidden, channels = renamed["channel.0.weight"].shape[:2]
    gam = mechanism("gam").cls(channels, reduction=channels // hidden, kernel_size=kernel_size, channel_gate="none")
    filled = _taken(state, gam, renamed, names, form)
    if filled is not None:
        for i in (1, 4):
            _keep_norm(filled, spatial[i], f"spatial.{i}")
    return filled


def _lsk(state: Mapping[str, Any], tensors: dict[str, Tensor]) -> nn.Module | None:
    names = {
        "conv0": "near", "conv_spatial": "far", "conv1": "near_proj", "conv2": "far_proj", "conv_squeeze": "select",
        "conv": "proj",
    }  # fmt: skip
    renamed = _renamed(tensors, names)
    if renamed is None:
        return None
    renamed["select.weight"] = renamed["select.weight"].flip(1)  # the mean comes first there
    lsk = mechanism("lsk").cls(renamed["near.weight"].shape[0])
    return _taken(state, lsk, renamed, names, (*names.values(), SIGMOID))


COPIED: Mapping[str, Translate] = {
    "se": _se,
    "eca": _eca,
    "ema": _ema,
    "simam": _simam,
    "coord_attention": _coord_attention,
    "shuffle_attention": _shuffle_attention,
    "cbam": _cbam,
    "gam": _gam,
    "lsk": _lsk,
}
"""The widely copied classes whose operator is ours, and how their state becomes ours."""
