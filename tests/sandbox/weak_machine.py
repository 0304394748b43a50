"""A machine that lacks layers, made of this one: whatever is run in it finds the system's own refusals.

    python weak_machine.py [--user NUMBER] LAYER[,LAYER…] COMMAND…

Where a layer is taken away, the calls that make it fail as they do on machines without it: a filter of system calls
answers for the kernel, in this process and in all that it starts. Control groups are covered by an empty folder, in a
mount namespace. ``user-namespaces-off`` is the machine whose administrator has set ``max_user_namespaces`` to 0,
``container`` the one where root is root of a user namespace only, in which there can be no further one.
"""

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

from byenatos_sandbox import bpf
from byenatos_sandbox.descriptors import PASS_PIDFD
from byenatos_sandbox.linux import MACHINE, prctl, system_call
from byenatos_sandbox.namespaces import NAMESPACES, unshare
from byenatos_sandbox.parts import SENDERS
from byenatos_sandbox.root import mount
from byenatos_sandbox.syscalls import AUDIT_ARCHITECTURES, NUMBERS

NO_NEW_PRIVS = 38
SECCOMP = 22
FILTER = 1
RECURSIVE = 1 << 14
PRIVATE = 1 << 18 | RECURSIVE
BIND = 1 << 12
CHECKOUT = Path(__file__).resolve().parents[2]
LANDLOCK = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")


def weaken(layers: list[str]) -> None:
    """Take layers away from this process, for good."""
    if "container" in layers:
        enter_container()
    if "cgroup" in layers:
        unshare(["mount-namespace"])
        mount(None, "/", None, PRIVATE)
        mount("nothing", "/sys/fs/cgroup", "tmpfs", 0, "size=4k,mode=555")
    prctl(NO_NEW_PRIVS, 1)
    rules: dict[str, bpf.Verdict] = {}
    if flags := sum(NAMESPACES.get(layer, 0) for layer in layers):
        refused = bpf.errno(errno.EPERM)
        rules |= {name: bpf.no_bits(0, flags, refused) for name in ("clone", "unshare")}
        rules["clone3"] = bpf.errno(errno.ENOSYS)  # its flags lie in memory
    if "landlock" in layers:
        rules |= dict.fromkeys(LANDLOCK, bpf.errno(errno.ENOSYS))
    if "seccomp" in layers:
        rules["seccomp"] = bpf.errno(errno.ENOSYS)
        rules["prctl"] = refuse_one(SECCOMP, bpf.errno(errno.EINVAL))
    if SENDERS in layers:
        rules["setsockopt"] = bpf.one_of(2, [PASS_PIDFD], bpf.ALLOW, bpf.errno(errno.ENOPROTOOPT))
    if rules:
        install({NUMBERS[MACHINE][name]: verdict for name, verdict in rules.items()})


def refuse_one(value: int, verdict: int) -> bytes:
    """The check that refuses one value of the first argument."""
    return bpf.one_of(0, [value], bpf.ALLOW, verdict)


def let_in(paths: list[str]) -> None:
    """Have all users reach ``paths``, where a folder on the way is closed to them: in a view of this process's own."""
    closed: dict[Path, list[Path]] = {}
    for path in map(Path, paths):
        for folder in reversed(path.parents):
            if not folder.stat().st_mode & 1:
                closed.setdefault(folder, []).append(path)
                break
    unshare(["mount-namespace"])
    mount(None, "/", None, PRIVATE)
    for folder, wanted in closed.items():
        sources = [os.open(path, os.O_PATH) for path in wanted]
        mount("reachable", str(folder), "tmpfs", 0, "size=1m,mode=755")
        for path, source in zip(wanted, sources, strict=True):
            path.mkdir(parents=True)
            mount(f"/proc/self/fd/{source}", str(path), None, BIND | RECURSIVE)
            os.close(source)


def enter_container() -> None:
    """Be root of a user namespace that knows all users of this machine, and in which no other can be made."""
    ours, its = os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        os.read(ours, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{parent}/{name}").write_text("0 0 4294967295")
        os._exit(0)
    unshare(["user-namespace"])
    os.write(its, b"!")
    assert os.wait()[1] == 0
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def switch_off_user_namespaces(user: int) -> None:
    """Be an ordinary user where nobody may make user namespaces."""
    enter_container()
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def install(rules: dict[int, bpf.Verdict]) -> None:
    program = bpf.dispatch(rules, default=bpf.ALLOW, architecture=AUDIT_ARCHITECTURES[MACHINE], x32=MACHINE == "x86_64")
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    system_call("seccomp", FILTER, 0, header)


def main(arguments: list[str]) -> None:
    user = int(arguments.pop(1)) if arguments[0] == "--user" else 0
    if user:
        arguments.pop(0)
    layers, *command = arguments
    if user:
        let_in([os.path.realpath(sys.base_prefix), sys.prefix, str(CHECKOUT)])
    names = [name for name in layers.split(",") if name]
    if "user-namespaces-off" in names:
        switch_off_user_namespaces(user)
    elif user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    weaken(names)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
