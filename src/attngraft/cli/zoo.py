"""What ``attngraft list`` and ``attngraft show`` print, read from the registry."""

from __future__ import annotations

from fnmatch import fnmatch

from rich.console import Console
from rich.table import Table

from attngraft.attention import info, names

EXAMPLE_CHANNELS, EXAMPLE_SIDE = 256, 20
"""The map of the figures: 256 channels, 20 x 20 cells, as at P5 of a 640-pixel picture."""


def print_list(pattern: str) -> None:
    """Print a table of the mechanisms whose name matches ``pattern``."""
    table = Table(box=None, pad_edge=False)
    for heading, width in {"name": 17, "year": 4, "parameters": 10, "M macs": 7}.items():
        table.add_column(heading, min_width=width, no_wrap=True, justify="left" if heading == "name" else "right")
    table.add_column("what it is")
    for name in names():
        record = info(name)
        if fnmatch(name, pattern):
            about = record.summary.partition(": ")[2].rstrip(".")
            table.add_row(name, str(record.year or ""), *_cost(name), about)
    console = Console()
    if not table.row_count:
        console.print(f"no mechanism matches {pattern!r}; attngraft list shows all of them")
        return
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
    console = Console()
    parameters, macs = _cost(record.name)
    console.print(f"[bold]{record.summary}[/bold]")
    card = Table(box=None, show_header=False, pad_edge=False)
    card.add_column(style="cyan", no_wrap=True)
    card.add_column()
    for label, text in {
        "formula": record.formula,
        "paper": record.paper,
        "code": record.code,
        "differs": record.differs,
        "family": f"{record.family} ({record.role})",
        "cost": f"{record.cost} multiply-adds; memory grows with {record.growth}",
        "example": f"{parameters} parameters, {macs} M multiply-adds at 256 channels, 20 x 20",
    }.items():
        card.add_row(label, text, end_section=True)
    console.print(card)
    if record.options:
        table = Table("option", "default", "meaning", box=None, pad_edge=False)
        for option in record.options.values():
            table.add_row(option.name, repr(option.default), option.about)
        console.print("\n", table)
    console.print(f"\nUse it: attngraft train model=yolo11n+{record.name}@P5 data=my.yaml", style="dim")


def _cost(name: str) -> tuple[str, str]:
    """Return the parameters and the millions of multiply-adds of the example map, as text."""
    cls = info(name).cls
    module = cls(EXAMPLE_CHANNELS, **cls.fit(EXAMPLE_CHANNELS))  # type: ignore[attr-defined]
    parameters = sum(p.numel() for p in module.parameters())
    return f"{parameters:,}", f"{module.macs(EXAMPLE_SIDE, EXAMPLE_SIDE) / 1e6:.2f}"  # type: ignore[operator]
