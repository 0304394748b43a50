"""The arena, memory that a sandbox shares with the kernel: running what is written there, resizing it, keeping it."""

import ctypes
import fcntl
import mmap
import os
import platform
import stat
from contextlib import suppress

from attacks.registry import Stopped, attack, call, check, libc

_READ, _WRITE, _EXECUTE = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC
_PAGE = 4096
_MAY_MOVE, _SHARED = 1, 1
_RETURNS_42 = {"x86_64": b"\xb8\x2a\x00\x00\x00\xc3", "aarch64": b"\x40\x05\x80\x52\xc0\x03\x5f\xd6"}
_MADE: list[int] = []
"""What a process without an arena makes for itself, with the descriptor that no sandbox has."""


def _arena() -> int:
    """The address of the shared memory."""
    place = os.environ.get("BYENATOS_ARENA")
    if place:
        return int(place.partition(":")[0], 16)
    descriptor = os.memfd_create("arena", 0)
    os.ftruncate(descriptor, 1 << 20)
    _MADE.append(descriptor)
    return _map(1 << 20, _READ | _WRITE, descriptor)


def _map(length: int, protection: int, descriptor: int) -> int:
    libc().mmap.restype = ctypes.c_void_p
    libc().mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    address = libc().mmap(None, length, protection, _SHARED, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        check(-1)
    return int(address)


def _run(address: int) -> str:
    found = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    if found != 42:
        raise Stopped(0, "something else was run")
    return "its own code"


def _write_code() -> int:
    address = _arena()
    code = _RETURNS_42[platform.machine()]
    ctypes.memmove(address, code, len(code))
    return address


def _descriptors() -> list[int]:
    """Every descriptor of a memory file that this process has."""
    found = []
    for number in range(256):
        with suppress(OSError):
            status = os.fstat(number)
            fcntl.fcntl(number, 1034)  # F_GET_SEALS: only a memory file has any
            if stat.S_ISREG(status.st_mode) and status.st_size >= 1 << 20:
                found.append(number)
    if not found:
        raise Stopped(0, "no descriptor of shared memory")
    return found


@attack("seccomp", "process")
def runs_what_it_wrote_to_the_arena(prey):
    address = _write_code()
    call("mprotect", address, _PAGE, _READ | _EXECUTE)
    return _run(address)


@attack("seccomp", "process")
def maps_the_arena_a_second_time_to_run_it(prey):
    address = _write_code()
    second = call("mremap", address, 0, _PAGE, _MAY_MOVE)
    call("mprotect", second, _PAGE, _READ | _EXECUTE)
    return _run(second)


@attack("process")
def maps_the_arena_by_its_descriptor_to_run_it(prey):
    _write_code()
    return _run(_map(_PAGE, _READ | _EXECUTE, _descriptors()[0]))


@attack("process")
def shrinks_the_arena_under_its_other_end(prey):
    _arena()
    os.ftruncate(_descriptors()[0], 0)
    return "shrunk"


@attack("process")
def makes_the_arena_larger_than_was_granted(prey):
    _arena()
    os.ftruncate(_descriptors()[0], 1 << 24)
    return "grown"
