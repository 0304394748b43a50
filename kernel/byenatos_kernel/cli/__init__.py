"""The command line ``byenatos``: the floor above the kernel, which talks to it as any application does."""

from byenatos_kernel.cli.entry import main

__all__ = ["main"]
