"""What the calls on descriptors can do beyond reading and writing: locks, leases, caches, pipes, options of sockets."""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat
import struct
from contextlib import ExitStack, suppress

from attacks.registry import Stopped, attack, call, check, granted, libc

_PEER_GROUPS, _PEER_PIDFD = 59, 77
_ATTACH_FILTER = 26
_LOCK, _FIND_LOCK_OF_OTHERS, _LOCK_FOR_THE_DESCRIPTOR = 6, 36, 37
_LOCK_STRUCT = struct.Struct("hhqqi4x")
_NOTIFICATION_PIPE = 0x80
_COLD, _PAGE_OUT = 20, 21
_NOTHING_OPEN = (1 << 31) - 1
_FILES, _LOCKS_EACH = 40, 500
_OTHERS_WAIT = 45
"""Seconds for which whoever wants to write to a file waits for the end of a lease on it."""


@attack("seccomp", needs="a system from Linux 6.5 on")
def gets_hold_of_the_kernels_process(prey):
    with socket.socket(fileno=os.dup(prey["wire"])) as wire:
        return wire.getsockopt(socket.SOL_SOCKET, _PEER_PIDFD)


@attack("seccomp")
def learns_which_groups_the_kernel_is_in(prey):
    with socket.socket(fileno=os.dup(prey["wire"])) as wire:
        return wire.getsockopt(socket.SOL_SOCKET, _PEER_GROUPS, 1024)


@attack("seccomp")
def runs_a_program_in_the_system_by_a_socket(prey):
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0xFFFF), 8)  # take all
    one, _ = socket.socketpair()
    return one.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program))) or "runs"


@attack("seccomp", needs="a system that has it on unix sockets, from Linux 5.15 on")
def sends_a_letter_before_all_others(prey):
    one, _ = socket.socketpair()
    return one.send(b"x", socket.MSG_OOB)


@attack("seccomp", needs="a system that has it on unix sockets, from Linux 5.15 on")
def reads_what_was_sent_before_all_others(prey):
    _, other = socket.socketpair()
    other.setblocking(False)
    try:
        return other.recv(1, socket.MSG_OOB)
    except OSError as error:
        if error.errno == errno.EINVAL:  # there is nothing, says the code that looked
            return "looked"
        raise


@attack("seccomp")
def makes_a_pipe_hold_more(prey):
    ours, _ = os.pipe()
    return fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 1 << 20)


@attack("seccomp", needs="a system that tells of keys and mounts by pipes")
def makes_a_pipe_that_the_system_writes_to(prey):
    return call("pipe2", (ctypes.c_int * 2)(), _NOTIFICATION_PIPE) or "made"


@attack("seccomp")
def makes_whoever_writes_to_a_file_wait(prey):
    return fcntl.fcntl(granted(prey), fcntl.F_SETLEASE, fcntl.F_RDLCK) or f"for {_OTHERS_WAIT} s"


@attack("seccomp")
def locks_parts_of_files_without_end(prey):
    return _lock_without_end(_LOCK)


@attack("seccomp")
def locks_parts_of_files_without_end_for_descriptors(prey):
    return _lock_without_end(_LOCK_FOR_THE_DESCRIPTOR)


@attack("seccomp")
def tells_others_something_by_a_lock(prey):
    # of a file that every driver may read: who has it locked is one bit, a hundred thousand times a second
    with open(os.__file__) as one, open(os.__file__) as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "told"
    raise Stopped("told that it was done, and it was not")


@attack("seccomp")
def has_the_disk_flush_what_it_holds(prey):
    # by a file of others that was not even changed: thousands of times, and everybody's disk is slow
    try:
        os.fsync(_NOTHING_OPEN)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
    else:
        raise Stopped("told that it was done, and it was not")
    with open(os.__file__) as library:
        return os.fsync(library.fileno()) or "flushed"


@attack("seccomp")
def drops_what_others_have_in_memory(prey):
    return os.posix_fadvise(granted(prey), 0, 0, os.POSIX_FADV_DONTNEED) or "dropped"


@attack("seccomp", needs="a system from Linux 5.4 on")
def has_what_others_read_paged_out(prey):
    return _advise(granted(prey), _PAGE_OUT)


@attack("seccomp", needs="a system from Linux 5.4 on")
def has_what_others_read_paged_out_first(prey):
    return _advise(granted(prey), _COLD)


@attack("private root")
def learns_of_a_secret_through_a_granted_folder(prey):
    return os.stat(_way_out(prey), dir_fd=_granted_folder(prey)).st_size


@attack("private root", "landlock")
def reads_a_secret_through_a_granted_folder(prey):
    return os.read(os.open(_way_out(prey), os.O_RDONLY, dir_fd=_granted_folder(prey)), 100)


@attack("private root")
def leaves_a_granted_folder_upwards(prey):
    os.fchdir(_granted_folder(prey))
    os.chdir(os.path.relpath(prey["folder"], prey["granted_folder"]))
    return os.stat("secret").st_ino


@attack("private root", "landlock")
def writes_to_a_granted_folder(prey):
    folder = _granted_folder(prey)
    os.close(os.open("planted", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    return os.unlink("planted", dir_fd=folder)


def _lock_without_end(command: int) -> str:
    """Lock every other byte of files: a lock is memory of the system's that no limit counts."""
    with ExitStack() as opened:
        for number in range(_FILES):
            file = os.open(f"locked{number}", os.O_RDWR | os.O_CREAT, 0o600)
            opened.callback(os.close, file)
            for place in range(0, 2 * _LOCKS_EACH, 2):
                fcntl.fcntl(file, command, _LOCK_STRUCT.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
        other = os.open("locked0", os.O_RDWR)
        opened.callback(os.close, other)
        found = fcntl.fcntl(other, _FIND_LOCK_OF_OTHERS, _LOCK_STRUCT.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
        if _LOCK_STRUCT.unpack(found)[0] == fcntl.F_UNLCK:
            raise Stopped("told that it was done, and it was not")
    return f"{_FILES * _LOCKS_EACH} locks"


def _advise(descriptor: int, advice: int) -> object:
    libc().mmap.restype = ctypes.c_void_p
    address = libc().mmap(None, ctypes.c_size_t(4096), mmap.PROT_READ, mmap.MAP_PRIVATE, descriptor, ctypes.c_long(0))
    if address == ctypes.c_void_p(-1).value:
        check(-1)
    return call("madvise", address, 4096, advice) or "advised"


def _granted_folder(prey) -> int:
    """A descriptor of the granted folder: the one that is open already, where it is."""
    for number in range(256):
        with suppress(OSError):
            if stat.S_ISDIR(os.fstat(number).st_mode):
                return number
    return os.open(prey["granted_folder"], os.O_RDONLY | os.O_DIRECTORY)


def _way_out(prey) -> str:
    return os.path.relpath(prey["secret"], prey["granted_folder"])
