"""How well a process is isolated, in words, and the error of one that is not isolated as it must be."""

from collections.abc import Mapping
from typing import Self

from byenatos_sandbox.layers import LAYERS, lacks
from byenatos_sdk.protocol.errors import PermissionDenied

__all__ = ["NotIsolated", "isolation_level", "missing_layers"]


class NotIsolated(PermissionDenied):
    """A process lacks a required kind of isolation. Mend the machine, or require less; trying again will not help."""

    @classmethod
    def of(cls, name: str, kinds: Mapping[str, str]) -> Self:
        """Say that the process ``name`` lacks ``kinds``, each with what is missing or what got through."""
        return cls(f"{name} {cls.reason(kinds)}")

    @staticmethod
    def reason(kinds: Mapping[str, str]) -> str:
        """The sentence, without the name that it is about."""
        lacking = " and ".join(f"{kind} isolation ({why})" for kind, why in kinds.items())
        return (
            f"may not run here: it must have {lacking}; `byenatos doctor` says what to do about it, and what is "
            "required stands in policies/access.toml (isolation.required)"
        )


def isolation_level(layers: Mapping[str, str], opened: Mapping[str, str]) -> str:
    """Say how isolated a process is: ``full``, or what it is without.

    ``layers`` are those that are not on, ``opened`` the kinds of isolation that are not there.
    """
    parts = []
    if opened:
        parts.append(f"WITHOUT {' and '.join(opened)} isolation")
    absent = [LAYERS[name].words for name in LAYERS if name in layers]
    if len(absent) == len(LAYERS):
        parts.append("no layer at all")
    elif absent:
        parts.append(f"without {', '.join(absent)}")
    return "; ".join(parts) or "full"


def missing_layers() -> tuple[str, ...]:
    """Say of each layer that this machine does not have, that drivers run without it, and why."""
    return tuple(
        f"drivers run without {LAYERS[name].words}: {lack.why} (what to do: `byenatos doctor`)"
        for name, lack in lacks().items()
    )
