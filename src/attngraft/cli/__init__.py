"""The command ``attngraft``: parse, call, print."""

from attngraft.cli.main import main

__all__ = ["main"]
