"""What a sandboxed process is told before it locks itself in, and what it reports when it has.

The spec travels as msgpack in a memory file; the descriptors that belong to it come with it, and are moved to fixed
places, so that both sides know where they are: :data:`CHANNEL`, :data:`EGRESS`, then the granted files from
:data:`FILES` on, in the grant's order. The arena, shared memory, comes behind them and is mapped and closed at once.
"""

import os
from collections.abc import Mapping
from typing import Final, Self

import msgspec
from msgspec import Struct, field

from byenatos_sandbox.limits import Limits

__all__ = ["CHANNEL", "EGRESS", "FILES", "Report", "Spec"]

CHANNEL: Final = 3
EGRESS: Final = 4
FILES: Final = 5

_LARGEST_REPORT = 64 << 10


class Spec(Struct, frozen=True):
    """Orders for the child.

    ``entry`` is the ``module:function`` to call with the channel's descriptor and ``config``. ``plugin`` is the folder
    to import from (or empty), ``code`` its files if they are not to be read from there, ``imports`` further folders to
    import from. ``files`` and ``devices`` are granted, ``scratch`` is the folder to write to, unless a private root
    brings its own. ``layers`` are those to apply beyond what every child gets. ``user`` is whom root becomes (0: nobody
    else). ``forks`` is for a sandboxed template (``nursery.py``).
    ``arena`` is the size of the shared memory that comes along, in bytes (0: none does).
    """

    entry: str
    config: bytes
    limits: Limits
    environment: dict[str, str]
    scratch: str
    plugin: str = ""
    code: dict[str, bytes] | None = None
    imports: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    layers: frozenset[str] = frozenset()
    writable_code: bool = False
    scratch_mib: int = 16
    user: int = 0
    forks: bool = False
    arena: int = 0

    @property
    def arena_place(self) -> int:
        """Where the arena is until it is mapped: behind the files."""
        return FILES + len(self.files)

    @property
    def setup(self) -> int:
        """Where the setup socket is until leave is given: behind everything else."""
        return self.arena_place + (1 if self.arena else 0)

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

    @staticmethod
    def read(descriptor: int) -> "Spec":
        """Read the orders from the start of ``descriptor`` and close it."""
        try:
            data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            os.close(descriptor)
        return _decode_spec(data)


_decode_spec = msgspec.msgpack.Decoder(Spec).decode  # made once, in a template: it takes longer than what it does


class Report(Struct, frozen=True):
    """What a child says once it is locked in, or cannot be: then ``failure`` says why and it ends.

    ``open`` names each kind of isolation that is *not* there, with what got through when the child tried.
    """

    failure: str = ""
    open: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Encode it to bytes."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Decode it; raises ``msgspec.DecodeError`` for what is no report."""
        if len(data) > _LARGEST_REPORT:
            raise msgspec.DecodeError(f"expected a report of at most {_LARGEST_REPORT} bytes, found {len(data)}")
        return msgspec.msgpack.decode(data, type=cls)
