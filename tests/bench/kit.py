"""The models that are compared."""

from __future__ import annotations

MICRO = "attngraft-micro.yaml"
GRAFTED = f"{MICRO}+mhsa(init=paper)@P3"
