"""Devices by Ultralytics' words: ``cpu``, ``0``, ``0,1``, ``cuda:1``, ``mps``, or nothing for its own choice."""

from __future__ import annotations

from typing import Any

import torch

from attngraft._core.errors import OptionError

CHOICES = ("", "none", "-1")
"""Words that leave the choice to Ultralytics: the first accelerator, or the CPU where there is none."""


def devices(who: str, word: Any) -> list[torch.device]:
    """Return the devices that a word names, each of them here.

    Args:
        who: What asks, for the message.
        word: Ultralytics' word, a number, or several of them.

    Raises:
        OptionError: If it is no such word, or PyTorch does not find the device.

    Example:
        >>> devices("an example", "cpu")
        [device(type='cpu')]
    """
    several = word if isinstance(word, (list, tuple)) else str("" if word is None else word).strip("[]() ").split(",")
    return [_device(who, str(one).strip().lower()) for one in several]


def one_device(who: str, word: Any) -> torch.device:
    """Return the only device that a word names; the arguments and errors are those of `devices`."""
    found = devices(who, word)
    if len(found) > 1:
        raise OptionError(f"{who} runs on one device, got device={word!r}; name one of them")
    return found[0]


def _device(who: str, word: str) -> torch.device:
    if word in CHOICES:
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(f"cuda:{word}" if word.isdecimal() else word)
    except RuntimeError as error:
        raise OptionError(f"{who} takes device=cpu, a number such as 0, cuda:0 or mps, got {word!r}") from error
    if device.type == "cuda":
        _require_cuda(who, device)
    elif device.type != "cpu" and not _is_here(device):
        raise OptionError(f"{who} was asked for device={word}, and PyTorch finds none here; use device=cpu")
    return device


def _is_here(device: torch.device) -> bool:
    module = getattr(torch, device.type, None)
    return module is not None and hasattr(module, "is_available") and bool(module.is_available())


def _require_cuda(who: str, device: torch.device) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise OptionError(
            f"{who} was asked for a CUDA device ({device}), and PyTorch {torch.__version__} finds none here; "
            "use device=cpu, or install the device's driver and a PyTorch built for it"
        )
    if (device.index or 0) >= count:
        raise OptionError(f"{who} was asked for {device}, and the last one here is cuda:{count - 1}; name another")
