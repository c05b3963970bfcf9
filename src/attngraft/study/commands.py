"""The words of ``command:`` in a plan, which starts a program of the user's for each arm and seed."""

from __future__ import annotations

import shlex
from string import Formatter

from attngraft._core.errors import PlanError

PLACEHOLDERS = ("arm", "seed", "folder", "data")
NEEDED = ("arm", "seed", "folder")


def split_command(command: str) -> list[str]:
    """Split a command at its blanks, as a shell would, and check its placeholders.

    Raises:
        PlanError: If it cannot be split, or names something that it cannot be given, or not what it needs.

    Example:
        >>> split_command("python train.py --arm {arm} --seed {seed} --out '{folder}'")
        ['python', 'train.py', '--arm', '{arm}', '--seed', '{seed}', '--out', '{folder}']
    """
    try:
        found = shlex.split(command)
        named = {name for word in found for _, name, _, _ in Formatter().parse(word) if name is not None}
    except ValueError as error:
        raise PlanError(f"command: {error}, in {command!r}; close every quote, and write {{{{ for a brace") from error
    if unknown := sorted(named - {*PLACEHOLDERS}):
        known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
        raise PlanError(f"command: there is no {{{unknown[0]}}}; it may name {known}")
    if missing := [name for name in NEEDED if name not in named]:
        raise PlanError(
            f"command: it needs {{{missing[0]}}}, as in: python train.py --arm {{arm}} --seed {{seed}} --out {{folder}}"
        )
    return found
