"""What must fail in a sandbox is tried in it, before foreign code runs: each kind of isolation is shown, not assumed.

Nothing here asks which layers were applied. Each trial does what a driver might do, cheaply and without a trace, and
says what got through; a trial that the system refuses, for whatever reason, is isolation. None of them makes a call
that the filter answers by death.
"""

import errno
import os
import resource
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from byenatos_sandbox.linux import system_call
from byenatos_sandbox.spec import Spec

__all__ = ["KINDS", "openings"]

_OUTSIDE = ("/etc/passwd", "/etc/hostname", "/proc/self/environ", "/sys/kernel/mm/transparent_hugepage/enabled")
_NOBODY_LISTENS = ("127.0.0.1", 9)
_ASK_ONLY = 0xFFFFFFFF
_CREDENTIALS = struct.Struct("3i")


def openings(spec: Spec) -> dict[str, str]:
    """Return the kinds of isolation that are not there, each with what got through."""
    found: dict[str, str] = {}
    for kind, trials in KINDS.items():
        for trial in trials:
            with suppress(OSError):
                got = trial(spec)
                if got:
                    found[kind] = got
                    break
    return found


def _reads_outside(_: Spec) -> str:
    for path in _OUTSIDE:
        with suppress(OSError):
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            return f"{path} could be opened"
    return ""


def _writes_outside(spec: Spec) -> str:
    for folder in ("/tmp", "/var/tmp", os.path.dirname(spec.scratch), spec.plugin):  # noqa: S108
        if not folder:
            continue
        path = f"{folder}/byenatos-trial-{os.getpid()}"
        with suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.unlink(path)
            return f"a file could be made in {folder}"
    return ""


def _connects(_: Spec) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
        tcp.settimeout(0.2)
        code = tcp.connect_ex(_NOBODY_LISTENS)
        if code in {0, errno.ECONNREFUSED, errno.EINPROGRESS, errno.EAGAIN}:
            return "a TCP connection could be tried"
    return ""


def _sends(_: Spec) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"", _NOBODY_LISTENS)
    return "a datagram could be sent"


def _asks_personality(_: Spec) -> str:
    system_call("personality", _ASK_ONLY)
    return "personality() was allowed"


def _makes_memory_file(_: Spec) -> str:
    os.close(os.memfd_create("byenatos-trial", os.MFD_CLOEXEC))
    return "memfd_create() was allowed"


def _signals(spec: Spec) -> str:
    with socket.socket(fileno=os.dup(spec.setup)) as setup:
        credentials = setup.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    launching, _, _ = _CREDENTIALS.unpack(credentials)
    if launching == 0:
        return ""  # it has no number in here; the one that it has outside may be this very process's
    os.kill(launching, 0)
    return "the launching process could be signalled"


def _has_no_bounds(spec: Spec) -> str:
    if resource.getrlimit(resource.RLIMIT_NPROC)[1] == resource.RLIM_INFINITY:
        return "threads are not bounded"
    size = os.statvfs(".")
    if size.f_blocks * size.f_frsize > (spec.scratch_mib + 1) << 20:
        return "the scratch folder is as large as the disk"
    return ""


KINDS: Final[dict[str, tuple[Callable[[Spec], str], ...]]] = {
    "filesystem": (_reads_outside, _writes_outside),
    "network": (_connects, _sends),
    "system-calls": (_asks_personality, _makes_memory_file),
    "processes": (_signals,),
    "resources": (_has_no_bounds,),
}
"""The kinds of isolation, each with what is tried."""
