"""Which paths of a host a manifest's ``[[egress]]`` asks for; the broker judges by it, and so do authors' tests."""

__all__ = ["is_below"]


def is_below(path: str, prefix: str) -> bool:
    """Whether one of ``paths`` covers a path (without its query): itself, and what lies below it by ``/`` or ``:``."""
    if prefix.endswith("/"):
        return path.startswith(prefix)
    return path == prefix or path.startswith((f"{prefix}/", f"{prefix}:"))
