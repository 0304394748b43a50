"""What a process is handed over, and how: it finds nothing by a name that it was not given open."""

import errno
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from msgspec import Struct

from byenatos_sandbox import descriptors
from byenatos_sandbox.grant import Grant

__all__ = ["Handover", "nothing"]


class Handover(Struct, frozen=True):
    """What one process is given beside its grant.

    ``entry`` (``module:function``) is called with ``config``. ``code`` are the files of the plugin, by path. ``egress``
    is the process's end of the way to the broker, ``arena`` a memory file to be shared (-1: none). ``opened`` are
    granted files that are open already, by path, ``sockets`` further ones that it gets.
    """

    entry: str
    config: bytes
    opened: Mapping[str, int]
    code: Mapping[str, bytes] | None = None
    egress: socket.socket | None = None
    arena: int = -1
    sockets: Sequence[socket.socket] = ()

    def open_files(self, grant: Grant, undo: ExitStack, *, folders: bool) -> list[int]:
        """Open the granted files, in their order; ``undo`` closes them. Without ``folders`` nothing stands for one.

        Raises:
            OSError: one cannot be opened, or is neither a regular file nor a folder.
        """
        return [self._open(path, undo, folders=folders) for path in grant.files]

    def send(self, setup: socket.socket, *, spec: int, channel: int, files: Sequence[int]) -> None:
        """Send the descriptors, each with what it is for; the process receives them before anything else."""
        given = {
            "spec": [spec],
            "channel": [channel],
            "egress": [self.egress.fileno()] if self.egress is not None else [],
            "file": files,
            "socket": [one.fileno() for one in self.sockets],
            "arena": [self.arena] if self.arena >= 0 else [],
        }
        names = [name for name, numbers in given.items() for _ in numbers]
        descriptors.send(setup, " ".join(names).encode(), [one for numbers in given.values() for one in numbers])

    def _open(self, path: str, undo: ExitStack, *, folders: bool) -> int:
        # each process has a position of its own in the file, so one that is open already is opened once more
        place = f"/proc/self/fd/{self.opened[path]}" if path in self.opened else path
        # a pipe or a terminal would hold up the event loop, for good if nobody is at its other end
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        undo.callback(os.close, descriptor)
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, f"files: expected a regular file or a folder at {path}, found something else")
        return descriptor if folders or not stat.S_ISDIR(mode) else nothing(undo)


def nothing(undo: ExitStack) -> int:
    """Open what holds nothing; ``undo`` closes it."""
    descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    undo.callback(os.close, descriptor)
    return descriptor
