"""Folders as a driver could leave them: deeper than a function that calls itself for each folder can go."""

import os

__all__ = ["nest"]


def nest(folder, depth):
    """Make folders in folders, with a file in the last; each is only reached from the one before."""
    here = os.open(folder, os.O_PATH)
    for _ in range(depth):
        os.mkdir("deeper", dir_fd=here)
        inner = os.open("deeper", os.O_PATH, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)
