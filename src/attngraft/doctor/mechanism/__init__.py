"""Checks on a mechanism alone: a module class that keeps the shape of a map."""
