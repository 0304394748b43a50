"""Words without end. Outside they reach somebody who reads all of it, which is what the kernel must not do."""

import contextlib
import os
import signal
import socket
import struct

from attacks.registry import Stopped, attack

_MIB = 1 << 20
_ENOUGH = 24 * _MIB
"""More than the kernel holds for one driver, its limit for one message and what the system buffers included."""
_PATIENCE_S = 1.0
"""How long one write may wait; not all of them, for a busy machine reads slowly."""
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31)
_READY = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PAIR"


@contextlib.contextmanager
def _held_back():
    """Whoever makes us wait for so long stops us."""

    def enough(*_):
        raise Stopped("held back")

    signal.signal(signal.SIGALRM, enough)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _pour(descriptor: int, data: bytes) -> str:
    written = 0
    while written < _ENOUGH:
        with _held_back():
            written += os.write(descriptor, data)
    return f"{written >> 20} MiB taken"


@attack("process")
def floods_its_output(prey):
    return _pour(1, b"flood\n" * 8192)


@attack("process")
def floods_its_errors_in_one_line(prey):
    return _pour(2, b"flood" * 8192)


@attack("channel", flooding=True)
def sends_a_message_without_end(prey):
    with _held_back():
        socket.socket(fileno=os.dup(prey["wire"])).sendall(_GREETING + _READY)
    return _pour(prey["wire"], (b"\x01\xff" + bytes(255)) * 256)  # each frame says that one more comes


@attack("channel", flooding=True)
def sends_a_message_of_empty_parts(prey):
    with _held_back():
        socket.socket(fileno=os.dup(prey["wire"])).sendall(_GREETING + _READY)
    return _pour(prey["wire"], b"\x01\x00" * 32768)


@attack("channel", flooding=True)
def sends_a_frame_of_four_gigabytes(prey):
    with _held_back():
        head = b"\x02" + struct.pack(">Q", 4 << 30)
        socket.socket(fileno=os.dup(prey["wire"])).sendall(_GREETING + _READY + head)
    return _pour(prey["wire"], bytes(65536))


@attack("channel", flooding=True)
def sends_commands_without_end(prey):
    with _held_back():
        socket.socket(fileno=os.dup(prey["wire"])).sendall(_GREETING + _READY)
    return _pour(prey["wire"], (b"\x04\x07\x04PING\x00\x00") * 4096)


@attack("channel", flooding=True)
def sends_what_is_no_message(prey):
    return _pour(prey["wire"], os.urandom(65536))


@attack("channel", flooding=True)
def says_nothing_but_half_a_greeting(prey):
    with _held_back():
        socket.socket(fileno=os.dup(prey["wire"])).sendall(_GREETING[:10])
    return _pour(prey["wire"], b"\xff" * 65536)
