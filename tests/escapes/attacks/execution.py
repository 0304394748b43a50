"""Running code that was not loaded: programs, libraries and machine code of its own, other doors to the system."""

import ctypes
import json
import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path

from attacks.registry import Stopped, attack, call, check, libc

_READ, _WRITE, _EXECUTE = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC
_PAGE = 4096
_ONLY_X86 = "a machine of this kind with a system that has this door"


def _a_library() -> Path:
    """One of the interpreter's own, which depends on nothing but the C library."""
    folder = next(Path(one) for one in sys.path if one.endswith("lib-dynload"))
    return min(folder.glob("*.so"), key=lambda one: one.stat().st_size)


def _copied(name: str) -> str:
    Path(name).write_bytes(_a_library().read_bytes())
    return str(Path(name).absolute())


def _map(length: int, protection: int, flags: int, descriptor: int = -1) -> int:
    libc().mmap.restype = ctypes.c_void_p
    libc().mmap.argtypes = (
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int),
        *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
    )
    address = libc().mmap(None, length, protection, flags, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        check(-1)
    return address


@attack("seccomp", "landlock")
def runs_a_program(prey):
    return subprocess.run(["/bin/true"], check=True)


@attack("seccomp", "landlock")
def runs_a_program_by_a_shell(prey):
    return os.system("true") == 0 or _nothing("no shell")


@attack("seccomp", "landlock")
def spawns_a_program(prey):
    return os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)


@attack("seccomp", "landlock")
def becomes_a_program(prey):
    says = json.dumps({"worked": "became a shell"})
    os.set_inheritable(prey["wire"], True)
    return os.execv("/bin/sh", ["sh", "-c", f"printf '\\n%s\\n' '{says}' >&{prey['wire']}"])


@attack("seccomp", "landlock")
def becomes_a_program_by_its_descriptor(prey):
    says = json.dumps({"worked": "became a shell"})
    os.set_inheritable(prey["wire"], True)
    arguments = [b"sh", b"-c", f"printf '\\n%s\\n' '{says}' >&{prey['wire']}".encode(), None]
    array = (ctypes.c_char_p * 4)(*arguments)
    return call("execveat", os.open("/bin/sh", os.O_PATH), b"", array, (ctypes.c_char_p * 1)(None), 0x1000)


@attack("seccomp", "landlock")
def runs_a_program_by_the_loader(prey):
    return subprocess.run([_loader(), "/bin/true"], check=True)


@attack("seccomp", "landlock", "private root")
def runs_a_program_of_its_own(prey):
    Path("program").write_text("#!/bin/sh\nexit 0\n")
    os.chmod("program", 0o700)
    return subprocess.run(["./program"], check=True)


@attack("seccomp", "landlock")
def runs_a_program_with_a_library_before_all(prey):
    library = str(_a_library())
    return subprocess.run(["/bin/true"], check=True, env={"LD_PRELOAD": library})


@attack("seccomp", "landlock")
def runs_a_program_from_memory(prey):
    program = os.memfd_create("program", 0)
    os.write(program, Path("/bin/true").read_bytes())
    return subprocess.run([f"/proc/self/fd/{program}"], check=True, pass_fds=[program])


@attack("seccomp", "landlock", needs="a system with set-uid programs, and the control is no better off with one")
def runs_a_program_as_its_owner(prey):
    for name in ("/bin/su", "/usr/bin/su", "/usr/bin/passwd"):
        if Path(name).exists() and Path(name).stat().st_mode & 0o4000:
            return subprocess.run([name, "--help"], check=True, capture_output=True) and name
    return _nothing("none here")


@attack("private root")
def loads_a_library_that_it_wrote(prey):
    return ctypes.CDLL(_copied("library.so"))


@attack("private root")
def maps_a_file_that_it_wrote_to_run_it(prey):
    descriptor = os.open(_copied("code"), os.O_RDONLY)
    return _map(_PAGE, _READ | _EXECUTE, mmap.MAP_PRIVATE, descriptor) and "mapped"


@attack("seccomp", "private root")
def loads_a_library_from_memory(prey):
    library = os.memfd_create("library", 0)
    os.write(library, _a_library().read_bytes())
    return ctypes.CDLL(f"/proc/self/fd/{library}")


@attack("seccomp", "process")
def writes_and_runs_code(prey):
    return _map(_PAGE, _READ | _WRITE | _EXECUTE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) and "mapped"


@attack("seccomp", "process")
def makes_what_it_wrote_code(prey):
    address = _map(_PAGE, _READ | _WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return call("mprotect", address, _PAGE, _READ | _EXECUTE)


@attack("seccomp", "process", needs="a processor with protection keys is not needed, but a system that knows the call")
def makes_what_it_wrote_code_by_a_newer_way(prey):
    address = _map(_PAGE, _READ | _WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return call("pkey_mprotect", address, _PAGE, _READ | _EXECUTE, -1)


@attack("seccomp", "process")
def makes_code_of_the_system_writable(prey):
    address = ctypes.cast(libc().getpid, ctypes.c_void_p).value
    assert address is not None
    return call("mprotect", address & ~(_PAGE - 1), _PAGE, _READ | _WRITE | _EXECUTE)


@attack("seccomp")
def maps_one_memory_twice_to_write_and_to_run(prey):
    memory = os.memfd_create("twice", 0)
    os.ftruncate(memory, _PAGE)
    _map(_PAGE, _READ | _WRITE, mmap.MAP_SHARED, memory)
    return _map(_PAGE, _READ | _EXECUTE, mmap.MAP_SHARED, memory) and "mapped twice"


@attack("private root")
def maps_one_file_twice_to_write_and_to_run(prey):
    file = os.open("twice", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(file, _PAGE)
    _map(_PAGE, _READ | _WRITE, mmap.MAP_SHARED, file)
    return _map(_PAGE, _READ | _EXECUTE, mmap.MAP_SHARED, file) and "mapped twice"


@attack("seccomp")
def changes_its_personality(prey):
    return call("personality", 0x0040000)  # ADDR_NO_RANDOMIZE


@attack("seccomp")
def has_all_that_it_reads_executable(prey):
    return call("personality", 0x0400000)  # READ_IMPLIES_EXEC


@attack("seccomp", "private root", needs=_ONLY_X86)
def calls_the_system_as_an_older_machine(prey):
    if platform.machine() != "x86_64":
        _nothing("another machine")
    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20 (getpid of i386); int 0x80; ret
    Path("code").write_bytes(code.ljust(_PAGE, b"\xc3"))
    address = _map(_PAGE, _READ | _EXECUTE, mmap.MAP_PRIVATE, os.open("code", os.O_RDONLY))
    found = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    return found if found == os.getpid() else _nothing("not of this system")


@attack("seccomp", needs=_ONLY_X86)
def calls_the_system_by_the_numbers_of_x32(prey):
    return call(0x40000000 | 39)


def _loader() -> str:
    for name in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"):
        if Path(name).exists():
            return name
    raise Stopped("no loader")


def _nothing(why: str) -> object:
    raise Stopped(why)
