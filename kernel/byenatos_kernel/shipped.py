"""What comes with the kernel beside its code: the plugins, and the policies that count where the home has none."""

import sys
from pathlib import Path

from byenatos_sdk.home import Home

__all__ = ["access_file", "shipped", "swap_file"]


def access_file(home: Home) -> Path:
    """The operator's ``access.toml``: the home's own, else the shipped one."""
    return home.access if home.access.exists() else shipped("policies") / "access.toml"


def swap_file(home: Home) -> Path:
    """The operator's ``swap.toml``: the home's own, else the shipped one."""
    own = home.policies / "swap.toml"
    return own if own.exists() else shipped("policies") / "swap.toml"


def shipped(name: str) -> Path:
    """The shipped folder ``name`` (``plugins``, ``policies``): the checkout's, else the installation's."""
    checkout = Path(__file__).resolve().parents[2] / name
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "byenatos" / name
