"""Which namespaces this user can make on this machine, found out by making them; prints JSON: name to what it lacks.

Run as a program of its own (``layers.py`` does): each try is a fork that does as a sandbox does and exits. Some systems
let a user namespace be made and refuse what it is for, so the try goes as far as mounting, and for the mount namespace
as far as a root of its own, which older kernels and some root file systems do not allow.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from byenatos_sandbox import namespaces
from byenatos_sandbox.lack import Lack
from byenatos_sandbox.linux import prctl
from byenatos_sandbox.namespaces import NAMESPACES
from byenatos_sandbox.root import Root, mount

__all__ = ["main", "survey"]

_USER = "user-namespace"
_OUR_USER = 61183
_PR_SET_DUMPABLE = 4
_RECURSIVE_PRIVATE = 1 << 18 | 1 << 14
_OUTSIDE = "run the kernel outside of the container: byenatos up"
_FORBIDDEN = "a container's seccomp profile or a security module forbids it"


def survey() -> dict[str, Lack]:
    """Return the namespaces that cannot be made, each with the reason and what to do about it."""
    others = [name for name in NAMESPACES if name != _USER]
    if os.geteuid() == 0:
        found = {}
        if why := _try(_enter_as_root):
            found[_USER] = _advice(why)
        for name in others:
            if why := _try(partial(_enter, [name])):
                found[name] = _lack(why, "this program has not the rights of root here (a container?)")
        return found
    if why := _try(_mount_as_user):
        return dict.fromkeys(NAMESPACES, _advice(why))
    found = {}
    for name in others:
        if why := _try(partial(_enter, [_USER, name])):
            found[name] = _lack(why, _FORBIDDEN)
    return found


def _enter(names: Iterable[str]) -> None:
    names = list(names)
    user, group = os.geteuid(), os.getegid()
    namespaces.unshare(names)
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    if _USER in names:
        namespaces.map_user(proc, user, group)
    if "mount-namespace" in names:
        Root(trees=()).enter(os.getuid(), os.getgid())


def _mount_as_user() -> None:
    _enter([_USER])
    namespaces.unshare(["mount-namespace"])
    mount(None, "/", None, _RECURSIVE_PRIVATE)


def _enter_as_root() -> None:
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    namespaces.become(_OUR_USER)
    prctl(_PR_SET_DUMPABLE, 1)
    namespaces.unshare([_USER])
    namespaces.map_user(proc, _OUR_USER, _OUR_USER)


def _try(what: Callable[[], None]) -> str:
    """Do something in a child; return why it failed, nothing if it did not."""
    ours, its = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            try:
                what()
            except Exception as error:  # noqa: BLE001 - whatever it is, a sandbox would meet it too
                os.write(its, (str(error) or type(error).__name__).encode(errors="replace")[:1000])
        os._exit(0)
    os.close(its)
    with os.fdopen(ours, "rb") as answer:
        why = answer.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    return why or (f"the try was killed by signal {os.WTERMSIG(status)}" if status else "")


def _lack(why: str, usual: str) -> Lack:
    """What can be done about a namespace that cannot be made, where users are not the matter."""
    if os.strerror(errno.ENOSYS) in why:
        return Lack(f"{why}: this system's kernel is too old for it", "use Linux 5.12 or newer")
    if f"pivot_root: {os.strerror(errno.EINVAL)}" in why:
        return Lack(f"{why}: the root file system is the initial ramdisk, which cannot be left", "boot from a disk")
    return Lack(f"{why}: {usual}", _OUTSIDE)


def _advice(why: str) -> Lack:
    """What an administrator can do about a user namespace that cannot be made."""
    if _read("/proc/sys/user/max_user_namespaces") == "0":
        return Lack(f"{why}: user namespaces are switched off", "sysctl user.max_user_namespaces=10000")
    if _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return Lack(f"{why}: only root may make them", "sysctl kernel.unprivileged_userns_clone=1")
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return Lack(
            f"{why}: AppArmor restricts user namespaces (a profile with `userns,` for {sys.executable} allows them to "
            "this program alone)",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        )
    return Lack(f"{why}: {_FORBIDDEN}", _OUTSIDE)


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text().strip()
    return ""


def main() -> None:
    """Print the survey."""
    sys.stdout.write(msgspec.json.encode(survey()).decode())
