"""Where the plugins and policies are that come with the kernel."""

import sys
from pathlib import Path

__all__ = ["shipped"]


def shipped(name: str) -> Path:
    """The shipped folder ``name`` (``plugins``, ``policies``): the checkout's, else the installation's."""
    checkout = Path(__file__).resolve().parents[2] / name
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "byenatos" / name
