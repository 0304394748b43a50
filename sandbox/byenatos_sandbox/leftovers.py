"""What is left of a process that has ended, and goes with it: its scratch folder and its control group."""

import threading
from contextlib import suppress
from pathlib import Path

from byenatos_sandbox.cgroup import Group
from byenatos_sandbox.scratch import remove

__all__ = ["remove_leftovers"]

_GONE_TRIES, _GONE_EVERY_S = 200, 0.01


def remove_leftovers(scratch: Path, group: Group | None) -> None:
    """Remove what the process had; in a thread, however long it takes, what does not go at once."""
    try:
        scratch.rmdir()
        emptied = True
    except FileNotFoundError:
        emptied = True
    except OSError:
        emptied = False
    if not emptied or (group is not None and not group.remove()):
        threading.Thread(target=_remove_slowly, args=(scratch, group), name="byenatos-scratch").start()


def _remove_slowly(scratch: Path, group: Group | None) -> None:
    with suppress(OSError):
        remove(scratch)
    if group is not None:
        pause = threading.Event()
        for _ in range(_GONE_TRIES):
            if group.remove():
                return
            pause.wait(_GONE_EVERY_S)
