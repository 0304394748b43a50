"""What runs in a sandboxed process before the driver's entry does: it locks itself in, proves it, and waits for leave.

It begins with one socket to whoever launches it (the *setup* socket), on which it receives its spec with the
descriptors that belong to it, reports, and is told to go on. Order, and why it must be so:

1. the parent-death signal, then the wait for the spec: a parent that died before has closed the socket;
2. standard streams, session, descriptors: nothing of the process it was made from stays open;
3. limits, but the one of descriptors, and the control group where one enters it by oneself;
4. the root file system, which takes capabilities, and paths that a namespace or Landlock hides later;
5. root becomes an ordinary user, where its root file system is its own (elsewhere it could not even read the
   interpreter, which may lie in root's folders), and enters a user namespace, in which everybody else is since the
   clone;
6. no new privileges, so that no set-uid program gives back what the next steps take away, and because Landlock and
   seccomp ask for it; capabilities; no memory that is written and executed;
7. Landlock, which must open what its rules name;
8. not dumpable: no core file, not through a pipe either, and no other process of this user may trace this one; and the
   parent-death signal again, which a change of user clears; and the limit of descriptors, of which the steps before
   need more than many a driver;
9. seccomp last: it forbids every step before it;
10. the report: what must fail is tried (``trial.py``). The launching process looks from outside as well
    (``attestation.py``), and only its word lets the entry be imported and called.

A step that the system refuses ends the process before the entry is imported: a sandbox is whole or does not run.
"""

import ctypes
import importlib
import mmap
import os
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import NoReturn

from byenatos_sandbox import capabilities, descriptors, landlock, namespaces, seccomp, trial, verified
from byenatos_sandbox.cgroup import Group
from byenatos_sandbox.landlock import READ, READ_DEVICE, READ_WRITE, USE_DEVICE, Rule
from byenatos_sandbox.linux import prctl
from byenatos_sandbox.root import DEVICES, SCRATCH, Root
from byenatos_sandbox.spec import CHANNEL, EGRESS, FILES, Report, Spec

__all__ = ["ARENA", "CANNOT_START", "GO", "HERE", "join", "live"]

ARENA = "BYENATOS_ARENA"
"""The variable that says where the shared memory is: its address and size, in hexadecimal."""

GO = b"go"
HERE = b"here"
CANNOT_START = 70  # EX_SOFTWARE of sysexits.h: tells "never ran" from a driver's own exit status 1

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_MDWE, _REFUSE_EXEC_GAIN = 65, 1
_LIBRARIES = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store"),
    *("/etc/ld.so.cache", "/etc/mime.types", "/usr/share/zoneinfo"),
)
"""What the dynamic loader and the standard library read outside the interpreter's own folders."""


def live(setup: int, streams: list[int], user: int, group: int, control_group: Group | None = None) -> NoReturn:
    """Be a sandboxed process from here to the end.

    ``setup`` is its end of the setup socket, ``streams`` are its standard input, output and error. ``user`` and
    ``group`` are what it was before it entered its user namespace; ``control_group`` has been made for it.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    lock_in = partial(_lock_in, user=user, group=group, control_group=control_group)
    _end(lambda: _live(setup, streams, lock_in))


def join(setup: int, streams: list[int], scratch: str, *, alive: int) -> NoReturn:
    """Be an instance that a sandboxed template has forked: all but the filter is there already.

    It introduces itself with one message, which the system signs with its process id. ``scratch`` is its own folder;
    ``alive`` is a descriptor that is kept open for as long as it lives.
    """

    def life() -> int:
        os.write(setup, HERE)
        return _live(setup, streams, partial(_lock_once_more, scratch=scratch), alive)

    _end(life)


def _end(life: Callable[[], int]) -> NoReturn:
    status = CANNOT_START
    try:
        status = life()
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - whatever it is, nothing may return into the template
        with suppress(BaseException):
            traceback.print_exc()
    # not sys.exit: it would wait for threads that a driver left running, and run its exit handlers
    os._exit(status)


def _live(setup: int, streams: list[int], lock_in: Callable[[Spec], int | None], *kept: int) -> int:
    with suppress(PermissionError):  # it leads a session already if it was started for itself
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    descriptors.close_all_but([0, 1, 2, setup, *kept])
    connection = socket.socket(fileno=setup)
    data, received = descriptors.receive(connection)
    if not data:
        return CANNOT_START
    spec = Spec.read(received[0])
    connection = _take(connection, spec, data.decode().split(), received, kept)
    arena = _map_arena(spec) if spec.arena else 0
    try:
        listener = lock_in(spec)
    except BaseException as error:
        connection.send(Report(failure=f"{type(error).__name__}: {error}"[:1000]).encode())
        raise
    report = Report(open=trial.openings(spec))
    descriptors.send(connection, report.encode(), [listener] if listener is not None else [])
    if listener is not None:
        os.close(listener)  # whoever holds it decides about fatal calls
    if connection.recv(len(GO)) != GO:
        return CANNOT_START
    connection.close()
    if arena:
        os.environ[ARENA] = f"{arena:x}:{spec.arena:x}"
    return _call(spec)


def _take(
    connection: socket.socket, spec: Spec, names: list[str], received: list[int], kept: Iterable[int]
) -> socket.socket:
    """Put the descriptors where they belong and close all others; return the setup socket."""
    places = {spec.setup: connection.detach()}
    next_file = iter(range(FILES, spec.arena_place))
    fixed = {"channel": CHANNEL, "egress": EGRESS, "arena": spec.arena_place}
    for name, descriptor in zip(names[1:], received[1:], strict=True):
        places[fixed.get(name) or next(next_file)] = descriptor
    descriptors.place(places)
    descriptors.close_all_but([0, 1, 2, *places, *kept])
    return socket.socket(fileno=spec.setup)


def _map_arena(spec: Spec) -> int:
    """Map the shared memory and close its descriptor, with which it could be mapped a second time, to be executed.

    Return the address. Not by Python's ``mmap``, which keeps a descriptor.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    try:
        place = libc.mmap(None, spec.arena, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, spec.arena_place, 0)
        if place is None or place == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "the arena cannot be mapped")
        return int(place)
    finally:
        os.close(spec.arena_place)


def _lock_in(spec: Spec, *, user: int, group: int, control_group: Group | None) -> int | None:
    """Apply everything; return the descriptor on which fatal calls are told, if there is one."""
    if control_group is not None and control_group.entered:
        control_group.enter()
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"expected one thread, found {threads}: Landlock and seccomp bind the calling one only")
    prctl(_PR_SET_DUMPABLE, 1)  # until the end: otherwise /proc/self belongs to root
    os.umask(0o022)
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if "user-namespace" in spec.layers and user:
        namespaces.map_user(proc, user, group)
    spec.limits.apply(tasks="user-namespace" in spec.layers or bool(spec.user))
    scratch = _enter_root(spec)
    _set_up(spec, scratch)
    if spec.user:
        namespaces.become(spec.user)
        prctl(_PR_SET_DUMPABLE, 1)
    if "user-namespace" in spec.layers and not user:
        namespaces.unshare(["user-namespace"])
        namespaces.map_user(proc, spec.user, spec.user)
    if "user-namespace" in spec.layers:
        with suppress(OSError):  # some systems have /proc/sys read-only; seccomp forbids it as well
            namespaces.forbid_nesting(proc)
    os.close(proc)
    os.umask(0o077)
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    capabilities.drop()
    if not spec.writable_code:
        with suppress(OSError):  # before Linux 6.3; seccomp looks at the same calls
            prctl(_PR_SET_MDWE, _REFUSE_EXEC_GAIN)
    if "landlock" in spec.layers:
        landlock.restrict(_rules(spec, scratch))
    _let_go_of_folders(spec)
    prctl(_PR_SET_DUMPABLE, 0)
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    spec.limits.bound_descriptors()
    if "seccomp" not in spec.layers:
        return None
    return seccomp.install(
        os.getpid(), writable_code=spec.writable_code, forks=spec.forks, egress_socket=spec.egress_socket
    )


def _lock_once_more(spec: Spec, scratch: str) -> None:
    """Add the filter that every driver has to the one of the template, which lets it fork."""
    _set_up(spec, scratch)
    spec.limits.bound_descriptors()
    if "seccomp" in spec.layers:
        # one filter of a process can tell, and the template's does
        seccomp.install(os.getpid(), writable_code=spec.writable_code, tells=False, egress_socket=spec.egress_socket)


def _enter_root(spec: Spec) -> str:
    """Enter the private root, if it is to have one, with the code; return where the scratch folder is."""
    if "mount-namespace" not in spec.layers:
        if spec.code is not None:
            verified.import_copies(spec.plugin, spec.code, spec.scratch)
        return spec.scratch
    owner, group = (spec.user, spec.user) if spec.user else (os.getuid(), os.getgid())
    root = Root(
        trees=(*_readable(spec), *([spec.plugin] if spec.plugin and spec.code is None else [])),
        data=_folders(spec),
        devices=spec.devices,
        folder=spec.plugin,
        code=spec.code,
        scratch_mib=spec.scratch_mib,
    )
    root.enter(owner, group)
    if "uts-namespace" in spec.layers:
        ctypes.CDLL(None).sethostname(b"sandbox", 7)
    return SCRATCH


def _folders(spec: Spec) -> tuple[str, ...]:
    """The granted folders: they are found by their names. A granted file has none here, it is open already."""
    opened = enumerate(spec.files, FILES)
    return tuple(path for number, path in opened if stat.S_ISDIR(os.fstat(number).st_mode))


def _let_go_of_folders(spec: Spec) -> None:
    """Put nothing in the place of each granted folder's descriptor, which is that of a folder outside.

    From there one could go up and ask of any path whether it exists, which neither a root nor Landlock prevents.
    """
    for number in range(FILES, FILES + len(spec.files)):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(nothing, number, inheritable=False)
            os.close(nothing)


def _readable(spec: Spec) -> list[str]:
    return [*_LIBRARIES, f"{sys.base_prefix}/lib", *(path for path in sys.path if path), *spec.imports]


def _set_up(spec: Spec, scratch: str) -> None:
    """Environment, working directory and signals, as a process has them that was started for itself."""
    wanted = spec.environment | {"HOME": scratch, "TMPDIR": scratch}
    # what is as it must be is left alone: a change costs pages that are shared until then
    for name in list(os.environ):
        if name not in wanted:
            del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    time.tzset()
    os.chdir(scratch)
    # dispositions and mask are inherited: a parent that ignores TERM must not make drivers unstoppable
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if os.getpid() == 1:
        # process 1 takes no notice of signals without a handler; a handler in Python would wait for the engine's C code
        libc = ctypes.CDLL(None)
        libc.signal(signal.SIGTERM, libc["_exit"])
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _rules(spec: Spec, scratch: str) -> list[Rule]:
    readable = [*_readable(spec), *_folders(spec)]
    if spec.plugin and (spec.code is None or "mount-namespace" in spec.layers):
        readable.append(spec.plugin)  # otherwise what lies there is not what was verified
    rules = [Rule(path, READ) for path in readable]
    rules += [Rule(path, READ_DEVICE if path == "/dev/null" else READ) for path in DEVICES]
    rules += [Rule(path, USE_DEVICE) for path in spec.devices]
    rules.append(Rule(scratch, READ_WRITE))
    return rules


def _call(spec: Spec) -> int:
    """Import and call foreign code; whatever it raises becomes a traceback on stderr and an exit status."""
    try:
        sys.path += [path for path in (spec.plugin, *spec.imports) if path]
        module, _, function = spec.entry.partition(":")
        entry: Callable[[int, bytes], None] = getattr(importlib.import_module(module), function)
        entry(CHANNEL, spec.config)
    except SystemExit as leaving:
        if leaving.code is None or isinstance(leaving.code, int):
            return leaving.code or 0
        sys.stderr.write(f"{leaving.code}\n")
        return 1
    except BaseException:  # noqa: BLE001 - foreign code
        traceback.print_exc()
        return 1
    return 0
