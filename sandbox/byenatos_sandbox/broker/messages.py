"""What the kernel and the broker say to each other: one msgpack message per packet, on inherited sockets.

Two sockets, because two processes with different trust answer (``keeper.py``):

- *keeping*, to the keeper: :class:`Settings` and :class:`ListSecrets` go in; :class:`Listed`, :class:`Ended` come out;
- *control*, to the server: :class:`OpenPort` (with the port's descriptor, and that of a file of certificates if
  ``ca``), :class:`OpenLine` (with a stream), :class:`AmendPort` and :class:`ClosePort` go in; :class:`Serving` comes
  out once after each start, and is answered by every port anew.
"""

from typing import Literal

import msgspec
from msgspec import Struct

__all__ = [
    "MAX_PACKET",
    "AmendPort",
    "ClosePort",
    "Ended",
    "FromKeeper",
    "FromKernel",
    "Key",
    "ListSecrets",
    "Listed",
    "OpenLine",
    "OpenPort",
    "Rule",
    "SecretState",
    "Serving",
    "Settings",
    "Source",
    "ToKeeper",
    "decode_from_keeper",
    "decode_from_kernel",
    "decode_from_server",
    "decode_to_keeper",
    "encode",
]

MAX_PACKET = 128 << 10


class Key(Struct, frozen=True):
    """Where the key named ``secret`` goes.

    Into ``header`` after ``prefix``, into the ``query`` parameter, or nowhere because it signs the request (``scheme``,
    for ``service``; the key is then ``id:secret``).
    """

    secret: str
    header: str = ""
    prefix: str = ""
    query: str = ""
    scheme: Literal["", "tc3"] = ""
    service: str = ""


class Rule(Struct, frozen=True):
    """What a driver asks to send where. ``refused`` says why it may not, if it was not granted."""

    host: str
    port: int = 443
    scheme: Literal["https", "http"] = "https"
    methods: tuple[str, ...] = ("GET", "POST")
    paths: tuple[str, ...] = ("/",)
    max_request_mib: int = 32
    max_response_mib: int = 256
    key: Key | None = None
    refused: str = ""


class OpenPort(Struct, frozen=True, tag="open"):
    """Serve a port for an instance of ``driver``; a number that is open already is left as it is.

    ``addresses`` are the networks that its hosts may resolve to although they are not public. With ``ca`` a
    second descriptor comes along, of a file of certificates to trust instead of the system's.
    """

    port: int
    driver: str
    rules: tuple[Rule, ...]
    addresses: tuple[str, ...] = ()
    ca: bool = False


class AmendPort(Struct, frozen=True, tag="amend"):
    """Judge requests at a port by these rules from now on; what was begun goes on."""

    port: int
    rules: tuple[Rule, ...]


class OpenLine(Struct, frozen=True, tag="line"):
    """Serve a stream, whose other end a driver has, as one that was handed out at ``port``."""

    port: int


class ClosePort(Struct, frozen=True, tag="close"):
    """Close a port and everything that goes on over it."""

    port: int


class Serving(Struct, frozen=True, tag="serving"):
    """The server is up and knows no port yet."""

    pid: int


class Source(Struct, frozen=True):
    """Where a key comes from: exactly one of the three."""

    environment: str | None = None
    file: str | None = None
    keyring: str | None = None


class Settings(Struct, frozen=True, tag="settings"):
    """Where keys come from, which TCP ports may be connected to, and the folder that the audit is written to.

    Sent first, and again when they are others. A server is confined to its ports for good: for others it is replaced.
    """

    sources: dict[str, Source]
    ports: tuple[int, ...]
    audit: str


class ListSecrets(Struct, frozen=True, tag="list"):
    """Ask which keys there are; ``number`` comes back."""

    number: int


class SecretState(Struct, frozen=True):
    """A key's name, where it comes from, and why it cannot be used (empty: it can). Never its value."""

    name: str
    source: str
    problem: str = ""


class Listed(Struct, frozen=True, tag="listed"):
    """The answer to :class:`ListSecrets`."""

    number: int
    secrets: tuple[SecretState, ...]


class Ended(Struct, frozen=True, tag="ended"):
    """The server ended; the next starts after ``delay_s``."""

    reason: str
    delay_s: float


FromKernel = OpenPort | OpenLine | AmendPort | ClosePort
ToKeeper = Settings | ListSecrets
FromKeeper = Listed | Ended

encode = msgspec.msgpack.Encoder().encode
decode_from_kernel = msgspec.msgpack.Decoder(FromKernel).decode
decode_from_server = msgspec.msgpack.Decoder(Serving).decode
decode_to_keeper = msgspec.msgpack.Decoder(ToKeeper).decode
decode_from_keeper = msgspec.msgpack.Decoder(FromKeeper).decode
