"""Runs one untrusted process: a grant goes in, a supervised process with one channel comes out."""

from byenatos_sandbox.attempt import LaunchError
from byenatos_sandbox.exits import Exit
from byenatos_sandbox.grant import Grant, GrantError
from byenatos_sandbox.isolation import NotIsolated, isolation_level, missing_layers
from byenatos_sandbox.launch import launch, open_nursery
from byenatos_sandbox.nurseries import Nursery
from byenatos_sandbox.nursery import Preload
from byenatos_sandbox.process import Process
from byenatos_sandbox.templates import Templates

__all__ = [
    "Exit",
    "Grant",
    "GrantError",
    "LaunchError",
    "NotIsolated",
    "Nursery",
    "Preload",
    "Process",
    "Templates",
    "isolation_level",
    "launch",
    "missing_layers",
    "open_nursery",
]
