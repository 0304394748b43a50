"""Entries that the tests run inside a sandbox. Each answers, if at all, with one JSON line on the channel."""

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path

PR_GET_DUMPABLE = 3


def _accept(channel: int) -> socket.socket:
    with socket.socket(fileno=channel) as listener:
        return listener.accept()[0]


def _tell(channel: int, facts: object) -> socket.socket:
    connection = _accept(channel)
    connection.sendall(json.dumps(facts).encode() + b"\n")
    return connection


def _wait(connection: socket.socket) -> None:
    """Until the other end closes."""
    while connection.recv(4096):
        pass


def facts(channel: int, config: bytes) -> None:
    """Everything that a layer is about, as seen from inside."""
    descriptors = []
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        try:
            os.fstat(descriptor)
        except OSError:
            continue  # of the listing itself
        descriptors.append(descriptor)
    status = Path("/proc/self/status").read_text().splitlines()
    lines = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    mask = os.umask(0)
    os.umask(mask)
    known = {
        "pid": os.getpid(),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "channel": channel,
        "config": config.decode(),
        "environment": dict(os.environ),
        "descriptors": sorted(descriptors),
        "no_new_privs": lines["NoNewPrivs"],
        "dumpable": ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0),
        "blocked": lines["SigBlk"],
        "folder": str(Path.cwd()),
        "folder_mode": Path().stat().st_mode & 0o777,
        "mask": mask,
        "stdin": sys.stdin.read(),
        "interrupt_ignored": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "terminate_default": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        "limits": {
            name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
            for name in ("CORE", "NOFILE", "FSIZE", "DATA", "STACK")
        },
    }
    _tell(channel, known)


def wait(channel: int, config: bytes) -> None:
    """Say "ready", then live until the channel closes."""
    _wait(_tell(channel, "ready"))


def wait_for_ever(channel: int, config: bytes) -> None:
    """Say "ready", then live on whatever happens to the channel."""
    connection = _tell(channel, "ready")
    while connection:
        signal.pause()


def echo(channel: int, config: bytes) -> None:
    """Send back whatever comes."""
    connection = _accept(channel)
    while data := connection.recv(4096):
        connection.sendall(data)


def stubborn_family(channel: int, config: bytes) -> None:
    """Ignore SIGTERM, and so does a child in the same group."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = os.fork()
    if not grandchild:
        signal.pause()
    _wait(_tell(channel, grandchild))


def leave_a_child_behind(channel: int, config: bytes) -> None:
    """Return at once, while a child in the same group lives on."""
    grandchild = os.fork()
    if not grandchild:
        signal.pause()
    _tell(channel, grandchild)


def leave_with_status(channel: int, config: bytes) -> None:
    sys.exit(int(config))


def leave_with_words(channel: int, config: bytes) -> None:
    sys.exit(config.decode())


def leave_with_a_busy_thread(channel: int, config: bytes) -> None:
    """Return while a thread that is no daemon waits for ever."""
    threading.Thread(target=threading.Event().wait).start()


def fail(channel: int, config: bytes) -> None:
    print("about to fail")
    raise RuntimeError(config.decode())


def take_memory(channel: int, config: bytes) -> None:
    bytearray(int(config) << 20)


def write_file(channel: int, config: bytes) -> None:
    """Write so many bytes into the scratch folder."""
    Path("big").write_bytes(bytes(int(config)))


def flood(channel: int, config: bytes) -> None:
    """Print lines for ever."""
    _accept(channel)
    while True:
        os.write(1, b"0123456789abcdef" * 256 + b"\n")


def print_endless_line(channel: int, config: bytes) -> None:
    """Print so many MiB without a newline, then a last line, on stderr."""
    for _ in range(int(config)):
        os.write(2, b"x" * (1 << 20))
    os.write(2, b"\nthe last line\n")


def print_bytes(channel: int, config: bytes) -> None:
    os.write(1, config)


def _mounts_of_scratch() -> dict[str, int]:
    size = os.statvfs(".")
    return {"mib": size.f_blocks * size.f_frsize >> 20, "files": size.f_files, "flags": size.f_flag}


def surroundings(channel: int, config: bytes) -> None:
    """What is there to be seen; ``config`` lists paths to ``look`` for, to read and to write."""
    orders = json.loads(config)
    known = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "user": os.getuid(),
        "host": os.uname().nodename,
        "present": [path for path in orders.get("look", []) if os.path.lexists(path)],
        "scratch": _mounts_of_scratch(),
        "folder": str(Path.cwd()),
        "threads": resource.getrlimit(resource.RLIMIT_NPROC)[0],
        "read": {},
        "written": [],
        "descriptors": {},
    }
    for path in orders.get("paths", []):
        try:
            place = Path(path)
            inside = place.read_text() if place.is_file() else sorted(entry.name for entry in place.iterdir())
            known["read"][path] = inside
        except OSError as error:
            known["read"][path] = error.strerror
    for path in orders.get("write", []):
        try:
            Path(path).write_text("written")
            known["written"].append(path)
        except OSError:
            continue
    for number in orders.get("descriptors", []):
        known["descriptors"][str(number)] = os.pread(number, 100, 0).decode()
    _tell(channel, known)


def layout(channel: int, config: bytes) -> None:
    """What a template gives all that it makes: addresses, the hash seed, the state of the random number generator."""
    import random

    text = ctypes.create_string_buffer(16)
    found = {
        "libc": ctypes.cast(ctypes.CDLL("libc.so.6").malloc, ctypes.c_void_p).value,
        "object": id(object),
        "hash": hash("a text"),
        "random": random.random(),
        "buffer": ctypes.addressof(text),
    }
    _wait(_tell(channel, found))


def import_and_tell(channel: int, config: bytes) -> None:
    """Import the module that ``config`` names and say what it says."""
    import importlib

    module = importlib.import_module(config.decode())
    _tell(channel, {"says": module.SAYS, "file": module.__file__})


def end_by_itself(channel: int, config: bytes) -> None:
    """Crash as a library does that finds itself in a state that it cannot be in."""
    _accept(channel)
    os.abort()


def egress(channel: int, config: bytes) -> None:
    """Passes a word from the broker's port to the channel."""
    with socket.socket(fileno=4) as port:
        _tell(channel, {"channel": channel, "heard": port.recv(100).decode()})


def nest_folders(channel: int, config: bytes) -> None:
    """Nest so many folders, with a file, a link out and a locked folder among them."""
    Path("link").symlink_to("/")
    for number in range(int(config)):
        Path("inner").mkdir()
        Path("file").write_text("x")
        if number == 5:
            Path("locked").mkdir(mode=0)
        os.chdir("inner")


def dials(channel: int, config: bytes) -> None:
    """Connect in the ways that are ordered, and say what was answered to hello, or what was raised."""
    import asyncio
    import errno

    async def by_asyncio(path: str) -> str:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello")
        answer = await reader.read(64)
        writer.close()
        return answer.decode()

    def by_socket(kind: str, path: str) -> str:
        if kind == "datagram":
            return str(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).connect(path))
        if kind == "tcp":
            return str(socket.create_connection(("127.0.0.1", 9)))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            if kind == "timed":
                one.settimeout(30)
            one.connect(path)
            one.sendall(b"hello")
            return one.recv(64).decode()

    answers, kept = [], []
    for how, path in json.loads(config):
        try:
            if how == "hoard":
                while True:
                    kept.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            answers.append(asyncio.run(by_asyncio(path)) if how == "asyncio" else by_socket(how, path))
        except OSError as error:
            code = f" {errno.errorcode[error.errno]}" if type(error) is OSError else ""
            answers.append(f"{type(error).__name__}{code}")
            kept.clear()
    _wait(_tell(channel, answers))
