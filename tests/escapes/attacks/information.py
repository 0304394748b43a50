"""Learning what it was not told: descriptors, environment, terminals, the machine, what others do."""

import ctypes
import fcntl
import mmap
import os
import socket
import stat
import termios
from pathlib import Path

from attacks.registry import Stopped, attack, call, granted

_HIGHER_BITS = 1 << 32


@attack("process")
def finds_a_descriptor_that_was_left_open(prey):
    own = {0, 1, 2, prey["wire"]}
    for descriptor in set(range(1024)) - own:
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) and os.pread(descriptor, 100, 0) == prey["left_open"].encode():
            return descriptor
    raise Stopped("none")


@attack("process")
def finds_a_key_in_its_environment(prey):
    values = [value for name, value in os.environ.items() if "ATTACK_KEY" in name]
    return values[0] if values else _nothing("none")


@attack("private root", "landlock", needs="a process that is not dumpable hides it from all but root")
def finds_a_key_in_the_environment_that_its_parent_had(prey):
    return b"ATTACK_KEY" in Path(f"/proc/{os.getppid()}/environ").read_bytes() or _nothing("none")


@attack("private root", "landlock", needs="a machine with a terminal around the tests")
def opens_the_terminal_of_its_user(prey):
    return os.open("/dev/tty", os.O_RDWR)


@attack("seccomp", "private root", "landlock", needs="it takes a terminal, and a system that still types for others")
def types_into_a_terminal(prey):
    return fcntl.ioctl(_a_terminal(), termios.TIOCSTI, b"x")


@attack("seccomp", "private root", "landlock", needs="it takes a terminal, and a system that still types for others")
def types_into_a_terminal_by_a_number_that_is_too_large(prey):
    letter = ctypes.create_string_buffer(b"x")
    return call("ioctl", _a_terminal(), termios.TIOCSTI | _HIGHER_BITS, letter)


@attack("seccomp", "private root", "landlock", needs="it takes a terminal")
def takes_a_terminal_over(prey):
    return fcntl.ioctl(_a_terminal(), termios.TIOCSCTTY, 0)


@attack("seccomp")
def asks_a_descriptor_for_its_name(prey):
    ours, _ = socket.socketpair()
    return fcntl.ioctl(ours, 0x8905, bytes(4)) or "answered"  # SIOCATMARK


@attack("seccomp")
def learns_which_pages_of_a_file_others_read(prey):
    descriptor = granted(prey)
    file = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(file)) & ~4095
    return call("mincore", address, 4096, ctypes.create_string_buffer(1))


@attack("seccomp")
def learns_what_of_a_file_needs_no_waiting(prey):
    return os.preadv(granted(prey), [bytearray(1)], 0, os.RWF_NOWAIT)


@attack("seccomp", needs="a system that can merge equal pages")
def has_its_memory_merged_with_that_of_others(prey):
    memory = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return memory.madvise(mmap.MADV_MERGEABLE) or "merged if it is equal"


@attack("seccomp", needs="a system from Linux 6.5 on")
def learns_how_much_of_a_file_others_read(prey):
    descriptor = granted(prey)
    return call("cachestat", descriptor, (ctypes.c_uint64 * 2)(0, 0), (ctypes.c_uint64 * 5)(), 0)


@attack("namespaces")
def learns_the_name_of_the_machine(prey):
    return os.uname().nodename if os.uname().nodename == prey["hostname"] else _nothing("another name")


@attack("namespaces")
def learns_the_number_of_the_kernels_process(prey):
    return os.getppid() if os.getppid() in {prey["pid"], prey["parent"]} else _nothing("another number")


@attack("namespaces")
def learns_who_runs_the_kernel(prey):
    return os.getuid() if os.getuid() == prey["user"] else _nothing("another user")


@attack("private root", "landlock")
def learns_how_the_system_was_started(prey):
    return Path("/proc/cmdline").read_text()[:20]


@attack("private root", "landlock", needs="a machine that has such a file")
def learns_which_machine_this_is(prey):
    return (Path("/etc/machine-id").read_text() or _nothing("empty")) and "known"


def _a_terminal() -> int:
    for descriptor in (0, 1, 2):
        if os.isatty(descriptor):
            return descriptor
    return os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)


def _nothing(why: str) -> object:
    raise Stopped(why)
