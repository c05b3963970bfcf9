"""Carry a plan out: resolve its arms, run what is missing, keep what comes of it."""
