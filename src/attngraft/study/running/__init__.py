"""Carry a plan out: settle its arms, run what is missing, keep what comes of it."""
