"""Runs one untrusted process: a grant goes in, a supervised process with one channel comes out."""

from byenatos_sandbox.grant import Grant, GrantError
from byenatos_sandbox.launch import LaunchError, launch, open_nursery
from byenatos_sandbox.nurseries import Nursery
from byenatos_sandbox.nursery import Preload
from byenatos_sandbox.process import Exit, Process
from byenatos_sandbox.templates import Templates

__all__ = [
    "Exit",
    "Grant",
    "GrantError",
    "LaunchError",
    "Nursery",
    "Preload",
    "Process",
    "Templates",
    "launch",
    "open_nursery",
]
