"""What a sandboxed process is told before it locks itself in; it travels as msgpack on an inherited memory file."""

import os
from typing import Self

import msgspec
from msgspec import Struct

from byenatos_sandbox.limits import Limits

__all__ = ["Spec"]


class Spec(Struct, frozen=True):
    """Orders for the child.

    ``parent`` is the process id that must still be its parent, ``channel`` the inherited listening descriptor,
    ``entry`` the ``module:function`` to call with ``(channel, config)``, ``plugin`` a folder to import from (or empty).
    ``egress`` is the inherited end of the broker's port (-1: none).
    ``files`` may be read, ``scratch`` be written to; ``layers`` are those to apply beyond what every child gets.
    """

    parent: int
    channel: int
    entry: str
    plugin: str
    config: bytes
    limits: Limits
    egress: int = -1
    files: tuple[str, ...] = ()
    scratch: str = ""
    layers: frozenset[str] = frozenset()
    writable_code: bool = False

    def write(self) -> int:
        """Put the orders into a memory file and return its descriptor, which the caller closes."""
        descriptor = os.memfd_create("byenatos-spec", os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(msgspec.msgpack.encode(self))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @classmethod
    def read(cls, descriptor: int) -> Self:
        """Read the orders from the start of ``descriptor`` and close it."""
        try:
            data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            os.close(descriptor)
        return msgspec.msgpack.decode(data, type=cls)
