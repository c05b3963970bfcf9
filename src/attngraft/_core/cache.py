"""Where what can be made again is kept for a user."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

ADVICE = "set the environment variable ATTNGRAFT_CACHE to a folder that can be written"
"""What to do where the cache cannot be written: nobody chose its folder."""


def cache_folder() -> Path:
    """Return the user's cache; the environment variable ``ATTNGRAFT_CACHE`` names another."""
    named = os.environ.get("ATTNGRAFT_CACHE")
    return Path(named) if named else user_cache_path("attngraft")
