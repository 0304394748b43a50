"""Taking more than was granted. Each attack stops by itself soon after it got more, so that a control hurts nobody."""

import array
import contextlib
import ctypes
import mmap
import os
import resource
import socket
import threading
from pathlib import Path

from attacks.registry import Stopped, attack, call, check, libc

_MIB = 1 << 20
_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
_GROWS_DOWN = 0x100
_MANY_PROCESSES, _MANY_THREADS, _MANY_FILES, _MANY_TIMERS = 200, 300, 1500, 5000
_STACK = 64 << 10
_HUGE_PAGES = 0x40000
_DEEP = 1500


def _more_than_granted(prey) -> int:
    """MiB that nobody was granted, the scratch folder included, and that a machine can spare for a moment."""
    return int(prey["memory_mib"]) + int(prey["scratch_mib"]) + 16


def _touch(address: int, mib: int) -> str:
    libc().memset.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    libc().memset(address, 1, mib * _MIB)
    return f"{mib} MiB"


def _map(length: int, flags: int, descriptor: int = -1, protection: int = mmap.PROT_READ | mmap.PROT_WRITE) -> int:
    libc().mmap.restype = ctypes.c_void_p
    libc().mmap.argtypes = (
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
        *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
    )
    address = libc().mmap(None, length, protection, flags, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        check(-1)
    return address


@attack("limits", "cgroup")
def takes_memory_without_end(prey):
    mib = _more_than_granted(prey)
    return _touch(_map(mib * _MIB, _ANONYMOUS), mib)


@attack("limits", "cgroup")
def takes_memory_in_small_pieces(prey):
    pieces = []
    try:
        pieces.extend(bytearray(_MIB) for _ in range(_more_than_granted(prey)))
    except MemoryError:
        raise Stopped(f"no memory after {len(pieces)} MiB") from None
    return f"{len(pieces)} MiB"


@attack("seccomp", "cgroup")
def maps_memory_that_no_limit_counts(prey):
    mib = _more_than_granted(prey)
    return _touch(_map(mib * _MIB, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS), mib)


@attack("seccomp", "cgroup")
def maps_memory_as_if_it_were_a_stack(prey):
    mib = _more_than_granted(prey)
    return _touch(_map(mib * _MIB, _ANONYMOUS | _GROWS_DOWN), mib)


@attack("private root", "landlock")
def maps_zeros_for_all(prey):
    mib = _more_than_granted(prey)
    return _touch(_map(mib * _MIB, mmap.MAP_SHARED, os.open("/dev/zero", os.O_RDWR)), mib)


@attack("seccomp", "cgroup")
def fills_files_in_memory(prey):
    filled = 0
    while filled < _more_than_granted(prey):  # one could not be larger than any file may be
        memory = os.memfd_create("memory", 0)
        os.posix_fallocate(memory, 0, 48 * _MIB)
        filled += 48
    return f"{filled} MiB"


@attack("private root", "landlock", needs="a system with shared memory")
def fills_shared_memory(prey):
    for number in range(2):
        name = f"/dev/shm/byenatos-attack-{os.getpid()}-{number}"
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.unlink(name)
        os.posix_fallocate(file, 0, 48 * _MIB)
    return "96 MiB"


@attack("limits", "cgroup", needs="a system that leaves the room between a stack and the rest as it has for long")
def has_its_own_stack_grow(prey):
    wanted, other = 104, int(prey["memory_mib"]) - 36  # that much is counted, and in sum it is more than was granted
    _touch(_map(other * _MIB, _ANONYMOUS), other)
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard != resource.RLIM_INFINITY and hard < (wanted + 8) * _MIB:
        raise Stopped("the hard limit is in the way")
    resource.setrlimit(resource.RLIMIT_STACK, ((wanted + 8) * _MIB, hard))
    top = ctypes.c_void_p.in_dll(libc(), "__libc_stack_end").value
    return _touch(top - wanted * _MIB, wanted - 1)


@attack("limits", "cgroup")
def fills_memory_with_the_tables_of_its_pages(prey):
    # two MiB of empty memory, read and never written, take a page for their table: no limit of a process counts it
    mib = _more_than_granted(prey)
    length = mib * 256 * 2 * _MIB
    libc().mmap.restype = ctypes.c_void_p
    address = libc().mmap(ctypes.c_void_p(0), ctypes.c_size_t(length), mmap.PROT_READ, _ANONYMOUS, -1, ctypes.c_long(0))
    if address == ctypes.c_void_p(-1).value:
        check(-1)
    with contextlib.suppress(OSError):
        call("madvise", address, length, 15)  # MADV_NOHUGEPAGE: a huge page of zeros takes as much, but not everywhere
    for place in range(address, address + length, 2 * _MIB):
        ctypes.c_char.from_address(place).value  # noqa: B018 - reading is the attack
    return f"{mib} MiB"


@attack("limits", "cgroup")
def writes_to_copies_of_a_file_of_its_own(prey):
    # mapped only to be read: what is private is counted once it may be written
    each = 48
    file = os.open("zeros", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(file, each * _MIB)
    for _ in range(_more_than_granted(prey) // each + 1):
        address = _map(each * _MIB, mmap.MAP_PRIVATE, file, mmap.PROT_READ)
        call("mprotect", address, each * _MIB, mmap.PROT_READ | mmap.PROT_WRITE)
        _touch(address, each)
    return "all of them"


@attack("limits", needs="a control that is allowed to lock as much")
def locks_memory_without_end(prey):
    mib = 16
    address = _map(mib * _MIB, _ANONYMOUS)
    return call("mlock", address, mib * _MIB) or f"{mib} MiB"


@attack("seccomp", "limits", "cgroup")
def forks_without_end(prey):
    pids = []
    ours, its = os.pipe()
    try:
        for _ in range(_MANY_PROCESSES):
            if (pid := os.fork()) == 0:
                os.close(its)
                os.read(ours, 1)  # until its parent is gone
                os._exit(0)
            pids.append(pid)
    finally:
        os.close(its)
        for pid in pids:
            os.waitpid(pid, 0)
    return len(pids)


@attack("limits", "cgroup")
def starts_threads_without_end(prey):
    threading.stack_size(_STACK)
    enough, started = threading.Event(), 0
    try:
        for _ in range(_MANY_THREADS):
            threading.Thread(target=enough.wait, daemon=True).start()
            started += 1
    except (RuntimeError, MemoryError) as error:
        raise Stopped(f"{error} after {started}") from None
    finally:
        enough.set()
    return started


@attack("private root")
def fills_the_disk(prey):
    written = 0
    try:
        for number in range(3):
            with Path(f"large{number}").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 48 * _MIB)
            written += 48
    finally:
        for place in Path.cwd().glob("large*"):
            place.unlink()
    return f"{written} MiB"


@attack("limits")
def writes_a_file_without_end(prey):
    with Path("endless").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (int(prey["file_mib"]) + 16) * _MIB)
    os.unlink("endless")
    return "more than granted"


@attack("private root")
def makes_files_without_end(prey):
    for number in range(_MANY_FILES):
        os.close(os.open(f"file{number}", os.O_CREAT | os.O_WRONLY, 0o600))
    return _MANY_FILES


@attack("limits")
def opens_descriptors_without_end(prey):
    held = [os.dup(0) for _ in range(int(prey["open_files"]) + 1)]
    return len(held)


@attack("limits")
def raises_its_own_limit(prey):
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = (ctypes.c_uint64 * 2)(int(prey["open_files"]) + 1, int(prey["open_files"]) + 1)
    call("prlimit64", 0, resource.RLIMIT_NOFILE, limits, None)
    return f"from {soft}"


@attack("limits")
def sets_timers_without_end(prey):
    event = (ctypes.c_int32 * 16)()
    event[3] = 1  # SIGEV_NONE
    timer = ctypes.c_int()
    for _ in range(_MANY_TIMERS):
        call("timer_create", 1, event, ctypes.byref(timer))
    return _MANY_TIMERS


@attack("limits")
def hides_descriptors_in_flight(prey):
    held, hidden = [], 0
    with contextlib.ExitStack() as kept:
        for _ in range(int(prey["open_files"]) // 4):
            one, other = socket.socketpair()
            held += [kept.enter_context(one), kept.enter_context(other)]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 200))]
            one.sendmsg([b"x"], rights)
            hidden += 200
            if hidden > int(prey["open_files"]) * 4:
                return hidden
    raise Stopped(f"no more than {hidden}")


@attack("seccomp", needs="a system that has set such pages aside")
def takes_the_huge_pages_of_others(prey):
    return _map(2 * _MIB, _ANONYMOUS | _HUGE_PAGES) and "taken"


@attack("private root")
def leaves_folders_that_nobody_removes(prey):
    # deeper than a program that calls itself for each folder can go; the tests look at what is left afterwards
    for _ in range(_DEEP):
        os.mkdir("deeper")
        os.chdir("deeper")
    return _DEEP if int(prey["folders_may_stay"]) else _nothing("it is seen afterwards whether they went")


@attack("seccomp", "process", needs="it takes CAP_SYS_NICE, which no driver's process has")
def runs_before_everybody_else(prey):
    call("sched_setscheduler", 0, 1, (ctypes.c_int * 1)(1))  # SCHED_FIFO
    if os.sched_getscheduler(0) != os.SCHED_FIFO:
        raise Stopped("told that it was done, and it was not")
    return "real time"


@attack("seccomp", "process", needs="it takes CAP_SYS_NICE, which no driver's process has")
def has_deadlines(prey):
    attributes = (ctypes.c_uint64 * 6)(48 | 6 << 32, 0, 0, 10_000_000, 30_000_000, 30_000_000)  # SCHED_DEADLINE
    return call("sched_setattr", 0, attributes, 0) or "deadlines"


@attack("seccomp", "process", needs="it takes CAP_SYS_NICE, which no driver's process has")
def becomes_more_important(prey):
    return os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 5) or "more important"


@attack("seccomp", "process", needs="it takes CAP_IPC_LOCK, or a generous limit")
def locks_all_of_its_memory(prey):
    return call("mlockall", 2) or "all that is to come"


def _nothing(why: str) -> object:
    raise Stopped(why)
