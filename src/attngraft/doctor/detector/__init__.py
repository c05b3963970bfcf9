"""Checks on a whole detector: a recipe, a YAML or a checkpoint."""
