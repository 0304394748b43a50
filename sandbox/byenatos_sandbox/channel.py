"""The one way in and out of a sandbox: a unix stream socket that no path leads to.

A child may speak by stock libzmq, which wants a *listening* descriptor (``ZMQ_USE_FD`` and ``bind``), so a socket pair
will not do. The socket is bound inside a folder of mode 0700, connected to at once, and its name removed before the
child exists: one connection, made by us, and nobody can make another.
"""

import contextlib
import os
import socket
from pathlib import Path

__all__ = ["PASS_RIGHTS", "open_channel", "refuse_descriptors"]

PASS_RIGHTS = 83  # SO_PASSRIGHTS of Linux 6.16, for which Python has no name yet


def open_channel(folder: Path) -> tuple[socket.socket, int]:
    """Return our connected, non-blocking end and the listening descriptor for the child.

    ``folder`` must be private to this user; it is left as it was found.

    Raises:
        OSError: if the system refuses; nothing stays open then.
    """
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # through /proc, because a unix socket's path may have 107 bytes and the folder's may be longer
        name = f"/proc/self/fd/{directory}/channel"
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(name)
                try:
                    listener.listen(1)
                    ours.connect(name)
                finally:
                    os.unlink("channel", dir_fd=directory)
                ours.setblocking(False)
                refuse_descriptors(ours)
                return ours, listener.detach()
        except BaseException:
            ours.close()
            raise
    finally:
        os.close(directory)


def refuse_descriptors(receiver: socket.socket) -> None:
    """Have the system refuse descriptors that are sent along to ``receiver``.

    Whoever receives closes them, and with a last one goes its file: seconds of work for a receiver that never asked for
    it. Systems before Linux 6.16 cannot refuse them.
    """
    with contextlib.suppress(OSError):
        receiver.setsockopt(socket.SOL_SOCKET, PASS_RIGHTS, 0)
