"""What ``attngraft list`` and ``attngraft show`` print, read from the registry."""

from __future__ import annotations

import re
from fnmatch import fnmatch

import torch
from rich.table import Table

from attngraft._core.errors import OptionError, first_line
from attngraft._core.imports import file_of
from attngraft._core.registry import fitted
from attngraft.attention import Attention, Mechanism, info, names
from attngraft.cli.output import console as new_console
from attngraft.measure import flops
from attngraft.measure import parameters as count

EXAMPLE_CHANNELS, EXAMPLE_SIDE = 256, 20
EXAMPLE = f"{EXAMPLE_CHANNELS} channels, {EXAMPLE_SIDE} x {EXAMPLE_SIDE}"
"""The map of the figures: 256 channels, 20 x 20 cells, as at P5 of a 640-pixel image."""
WIDTH = 66
"""Columns that the table of mechanisms needs: a terminal that has fewer breaks its lines and cuts no figure."""


def print_list(pattern: str) -> None:
    """Print a table of the mechanisms whose name matches ``pattern``.

    Raises:
        OptionError: If there is none.
    """
    table = Table(box=None, pad_edge=False)
    for heading, width in {"name": 17, "year": 4, "parameters": 10, "M macs": 7}.items():
        table.add_column(heading, min_width=width, no_wrap=True, justify="left" if heading == "name" else "right")
    table.add_column("what it is")
    for name in names():
        record = info(name)
        if fnmatch(name, pattern):
            parameters, macs, failure = _example(record)
            table.add_row(name, str(record.year or ""), parameters, macs, failure or _about(record))
    if not table.row_count:
        raise OptionError(f"no mechanism matches {pattern!r}; attngraft list shows all of them")
    console = new_console(least=WIDTH)
    console.print(table)
    console.print(
        f"\nFor {EXAMPLE_CHANNELS} channels and {EXAMPLE_SIDE} x {EXAMPLE_SIDE} cells; macs are multiply-adds. "
        "More of one: attngraft show NAME"
    )


def print_card(name: str) -> None:
    """Print what is known of one mechanism.

    Raises:
        UnknownNameError: If there is none of that name; names the nearest.
    """
    record = info(name)
    console = new_console()
    parameters, macs, failure = _example(record)
    figures = f"{parameters} parameters, {macs} M multiply-adds at {EXAMPLE}"
    console.print(_plain(record.summary or record.name), style="bold")
    card = Table(box=None, show_header=False, pad_edge=False)
    card.add_column(style="cyan", no_wrap=True)
    card.add_column()
    for label, text in {
        "formula": record.formula,
        "paper": record.paper,
        "code": record.code,
        "differs": record.differs,
        "family": f"{record.family} ({record.role})",
        "cost": record.cost and f"{record.cost} multiply-adds",
        "memory": record.growth and f"grows with {record.growth}",
        "example": failure or figures,
    }.items():
        if text:
            card.add_row(label, _plain(text), end_section=True)
    console.print(card)
    if record.options:
        table = Table("option", "default", "meaning", box=None, pad_edge=False)
        for option in record.options.values():
            table.add_row(option.name, repr(option.default), _plain(option.about))
        console.print("\n", table)
    file = file_of(record.cls)
    plugin = f"--plugin {file.name} " if file else ""
    console.print(f"\nUse it: attngraft {plugin}train model=yolo11n+{record.name}@P5 data=my.yaml", style="dim")


def _about(record: Mechanism) -> str:
    """Return the summary in a few words: without the mechanism's name before the colon."""
    return _plain(record.summary.partition(": ")[2] or record.summary).rstrip(".")


def _plain(text: str) -> str:
    """Return a text of a docstring without its marks."""
    return re.sub(r":\w+:(?=`)|`+", "", text)


def _example(record: Mechanism) -> tuple[str, str, str]:
    """Return the parameters and the millions of multiply-adds of the example map, and why there are none.

    What has no formula, as a user's own may, is counted.
    """
    try:
        module = record.cls(EXAMPLE_CHANNELS, **fitted(record.cls, EXAMPLE_CHANNELS))
        if record.cost and isinstance(module, Attention):
            macs = module.macs(EXAMPLE_SIDE, EXAMPLE_SIDE)
        else:
            macs = flops(module, torch.zeros(1, EXAMPLE_CHANNELS, EXAMPLE_SIDE, EXAMPLE_SIDE)) // 2
    except Exception as error:  # noqa: BLE001 (a user's own must not take the list with it)
        return "", "", f"fails at {EXAMPLE}: {first_line(error)}"
    return f"{count(module):,}", f"{macs / 1e6:.2f}", ""
