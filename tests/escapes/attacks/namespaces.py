"""Other rights and another view of the system: namespaces, mounts, users, capabilities."""

import ctypes
import os
import signal
import struct
from pathlib import Path

from attacks.registry import Stopped, attack, call, check, libc

_WITH_RIGHTS = "it takes CAP_SYS_ADMIN, which no driver's process has"
_BY_USERS = "a system that lets users make namespaces"
_BIND, _REMOUNT = 4096, 32


def _unshare(flag: int) -> int:
    return call("unshare", flag)


@attack("seccomp", "namespaces", needs=_BY_USERS)
def makes_a_namespace_of_users(prey):
    return _unshare(0x10000000)


@attack("seccomp", "namespaces", needs=_BY_USERS)
def makes_a_namespace_of_users_while_it_is_interrupted(prey):
    """What is told may be taken back before anybody has heard of it, which must not let the call through."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    for _ in range(500):
        try:
            return _unshare(0x10000000)
        except InterruptedError:
            continue
    raise Stopped("interrupted each time")


@attack("seccomp", "namespaces", needs=_BY_USERS)
def becomes_root_in_a_namespace(prey):
    user = os.getuid()
    _unshare(0x10000000)
    Path("/proc/self/uid_map").write_text(f"0 {user} 1\n")
    return os.getuid()


@attack("seccomp", "namespaces", needs=_BY_USERS)
def starts_a_process_in_a_namespace(prey):
    if (pid := call("clone", 0x10000000 | 0x20000000 | int(signal.SIGCHLD), 0, 0, 0, 0)) == 0:
        os._exit(0)
    return os.waitpid(pid, 0)


@attack("seccomp", "namespaces", needs=_BY_USERS)
def starts_a_process_in_a_namespace_by_a_newer_way(prey):
    if (pid := call("clone3", struct.pack("8Q", 0x10000000, 0, 0, 0, int(signal.SIGCHLD), 0, 0, 0), 64)) == 0:
        os._exit(0)
    return os.waitpid(pid, 0)


@attack("seccomp", "process", needs=_WITH_RIGHTS)
def makes_a_namespace_of_mounts(prey):
    return _unshare(0x00020000)


@attack("seccomp", "process", needs=_WITH_RIGHTS)
def makes_a_namespace_of_the_network(prey):
    return _unshare(0x40000000)


@attack("seccomp", "process", needs=_WITH_RIGHTS)
def makes_every_other_namespace(prey):
    return _unshare(0x20000000 | 0x08000000 | 0x04000000 | 0x02000000 | 0x80)


@attack("seccomp", "process", "private root", needs=_WITH_RIGHTS)
def enters_the_namespaces_of_the_kernel(prey):
    return call("setns", os.open(f"/proc/{prey['pid']}/ns/mnt", os.O_RDONLY), 0)


@attack("seccomp", "process", "namespaces", needs=_WITH_RIGHTS)
def enters_the_namespaces_of_the_kernel_by_descriptor(prey):
    return call("setns", os.pidfd_open(prey["pid"]), 0x00020000 | 0x40000000)


@attack("seccomp", "process", "landlock", needs=_WITH_RIGHTS)
def mounts_memory(prey):
    os.mkdir("place")
    return call("mount", b"none", b"place", b"tmpfs", 0, None)


@attack("seccomp", "process", "landlock", needs=_WITH_RIGHTS)
def mounts_the_processes(prey):
    os.mkdir("place")
    return call("mount", b"none", b"place", b"proc", 0, None)


@attack("seccomp", "process", "landlock", needs=_WITH_RIGHTS)
def binds_a_foreign_folder(prey):
    os.mkdir("place")
    return call("mount", os.fsencode(prey["folder"]), b"place", None, _BIND, None)


@attack("seccomp", "process", "landlock", needs=_WITH_RIGHTS)
def makes_its_root_writable(prey):
    return call("mount", None, b"/", None, _BIND | _REMOUNT, None)


@attack("seccomp", "process", "landlock", needs=_WITH_RIGHTS)
def unmounts_what_covers_the_system(prey):
    return call("umount2", b"/dev/shm", 8)  # UMOUNT_NOFOLLOW: busy or not allowed, never gone outside of a sandbox


@attack("seccomp", "process", "landlock", needs=_WITH_RIGHTS)
def changes_its_root_by_pivoting(prey):
    os.mkdir("place")
    return call("pivot_root", b"place", b"place")


@attack("seccomp", "process", needs="it takes CAP_SYS_CHROOT, which no driver's process has")
def changes_its_root(prey):
    return os.chroot(".")


@attack("seccomp", "process", needs=_WITH_RIGHTS)
def opens_a_new_file_system(prey):
    return call("fsopen", b"tmpfs", 0)


@attack("seccomp", "process", needs=_WITH_RIGHTS)
def copies_a_tree_of_mounts(prey):
    return call("open_tree", -100, b"/", 1)


@attack("seccomp", "process", "landlock", needs=_WITH_RIGHTS)
def moves_a_mount(prey):
    os.mkdir("place")
    return call("move_mount", os.open("/", os.O_PATH), b"", -100, b"place", 4)


@attack("seccomp", "process", needs=_WITH_RIGHTS)
def changes_how_its_root_is_mounted(prey):
    return call("mount_setattr", -100, b"/", 0, struct.pack("4Q", 0, 1, 0, 0), 32)


@attack("seccomp", "process", needs="only root may become another user")
def becomes_another_user(prey):
    other = 65533
    check(libc().setresuid(other, other, other))
    return os.getuid()


@attack("seccomp", "process", needs="only root may leave its groups")
def joins_other_groups(prey):
    return call("setgroups", 1, (ctypes.c_uint * 1)(0))


@attack("seccomp", "process", needs="it takes capabilities to have capabilities")
def takes_capabilities(prey):
    return call("capset", struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0xFFFFFFFF, 0xFFFFFFFF, 0] * 2))


@attack("seccomp", "process", needs="it takes CAP_SETPCAP, which no driver's process has")
def has_root_be_something_special_again(prey):
    return check(libc().prctl(28, 0, 0, 0, 0))  # PR_SET_SECUREBITS


@attack("seccomp", "process", needs="root without capabilities has locked it")
def keeps_capabilities_for_later(prey):
    return check(libc().prctl(8, 1, 0, 0, 0))  # PR_SET_KEEPCAPS


@attack("seccomp", "process", needs="no system takes it back")
def gives_itself_new_privileges(prey):
    return check(libc().prctl(38, 0, 0, 0, 0))


@attack("seccomp", "process", needs=_WITH_RIGHTS)
def renames_the_machine(prey):
    name = os.uname().nodename.encode()
    return call("sethostname", name, len(name))
