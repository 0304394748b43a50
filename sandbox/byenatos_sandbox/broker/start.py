"""Starts the broker's keeper, so that the keys of the environment are with it and nowhere else.

What is handed over here must be gone from the caller before it counts as the kernel: it calls :func:`start_broker`,
then replaces itself by ``exec`` with an environment that the keys are not in, and takes the descriptors over.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import msgspec

__all__ = ["Broker", "start_broker"]

_PASSED_ON: Final = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "TZ", "LANG"),
    # the desktop's keyring is behind these
    *("HOME", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DISPLAY"),
    *("WAYLAND_DISPLAY", "PYTHON_KEYRING_BACKEND"),
)


class Broker:
    """The kernel's ends of a running broker."""

    __slots__ = ("control", "keeping", "pid", "pidfd")

    def __init__(self, pid: int, keeping: socket.socket, control: socket.socket) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.keeping = keeping
        self.control = control

    def hand_over(self) -> str:
        """Have the descriptors survive ``exec``; return what :meth:`take_over` needs to find them."""
        for one in (self.keeping, self.control):
            one.set_inheritable(True)
        return f"{self.pid}:{self.keeping.fileno()}:{self.control.fileno()}"

    @classmethod
    def take_over(cls, words: str) -> Self:
        """Find, after ``exec``, what was handed over.

        Raises:
            ValueError, OSError: there is no such thing.
        """
        pid, keeping, control = map(int, words.split(":"))
        found = cls(pid, socket.socket(fileno=keeping), socket.socket(fileno=control))
        for one in (found.keeping, found.control):
            one.set_inheritable(False)
        return found

    def close(self) -> None:
        """Hang up, which ends it."""
        self.keeping.close()
        self.control.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def start_broker(keys: Mapping[str, str]) -> Broker:
    """Start a keeper that holds ``keys`` (environment variables); the caller's main thread must outlive it.

    Raises:
        OSError: it cannot be started.
    """
    ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    reading, writing = os.pipe()
    try:
        theirs = [end.fileno() for _, end in ends]
        numbers = [str(number) for number in (os.getpid(), *theirs, reading)]
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-I", "-B", "-m", "byenatos_sandbox.broker", *numbers],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            close_fds=True,
            pass_fds=(*theirs, reading),
            start_new_session=True,
            cwd=Path("/"),
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        )
    except BaseException:
        for ours, _ in ends:
            ours.close()
        os.close(writing)
        raise
    finally:
        for _, its in ends:
            its.close()
        os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(msgspec.msgpack.encode(dict(keys)))
    child.returncode = 0  # whoever supervises it reaps it by its pidfd
    (keeping, _), (control, _) = ends
    return Broker(child.pid, keeping, control)
