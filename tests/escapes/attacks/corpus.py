"""All attacks: to import a category is to list its attacks."""

from attacks import (  # noqa: F401 - each lists its own
    descriptors,
    execution,
    exhaustion,
    files,
    flooding,
    information,
    kernel_surface,
    lifetime,
    namespaces,
    network,
    processes,
    shared_memory,
    templates,
    writes,
)
from attacks.registry import ATTACKS

__all__ = ["ATTACKS", "NOT_STOPPED_YET"]

NOT_STOPPED_YET: frozenset[str] = frozenset()
"""Attacks that work in today's sandbox."""
