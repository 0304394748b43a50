"""Which protocol majors and features this build speaks, and how two ends agree on one.

A changed meaning is a new major. A new message kind or union member waits behind a feature name that both ends
offer. New *fields* with a default need neither: unknown fields are ignored and missing ones take their default.
"""

from collections.abc import Iterable

__all__ = ["DRIVER_FEATURES", "FEATURES", "MAJORS", "negotiate"]

MAJORS: tuple[int, ...] = (1,)
"""Protocol majors that this build speaks, the preferred one first."""

FEATURES: frozenset[str] = frozenset({"pause", "moved", "triggers"})
"""Optional parts of major 1 that this build understands, towards applications; ``triggers``: the event of one."""

DRIVER_FEATURES: frozenset[str] = frozenset({"pause", "moved", "warm"})
"""The same between kernel and drivers; ``warm``: calls and a frame for warm state (``warm.py``)."""


def negotiate(
    majors: Iterable[int],
    features: Iterable[str],
    *,
    own_majors: Iterable[int] = MAJORS,
    own_features: Iterable[str] = FEATURES,
) -> tuple[int, tuple[str, ...]] | None:
    """Agree on the highest common major and the common features.

    Returns ``(major, features)``, features sorted, or ``None`` when the two ends share no major.
    """
    common = set(majors) & set(own_majors)
    if not common:
        return None
    return max(common), tuple(sorted(set(features) & set(own_features)))
