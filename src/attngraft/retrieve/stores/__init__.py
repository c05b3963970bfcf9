"""Stores of keys: exact arrays in files, and LanceDB for what outgrows memory; one protocol."""

from attngraft.retrieve.stores.base import SPACES, Space, Store

__all__ = ["SPACES", "Space", "Store"]
