"""The wire: which frames travel between client, kernel and driver, and their codecs.

======================  ==============================================================================
client -> kernel        two frames ``[header][body]``; the header is one :data:`ClientHeader`, the body is
                        opaque to the bus: a msgpack ``InferenceRequest`` for :class:`Open`, the parameters
                        of a control method for :class:`Call`, else empty
kernel -> client        one frame: a list of ``(id, event)``, the id being the client's own
kernel -> driver        one frame: ``[u32 little-endian header length][header][body]``, header a :data:`DriverHeader`
driver -> kernel        one frame: a list of ``(id, event)``, the id being the kernel's stream or call number;
                        0 addresses the instance itself
======================  ==============================================================================

A frame holds a *list* because the message is the unit of cost (1 us) and not the delta (0.05 us): whoever sends
collects what one engine step or one turn of its loop produced. All structs are arrays with an integer tag; a field with
a default may be appended, never inserted. ``ZMTP`` limits, windows and deadlines are the ends' own business.
"""

import struct
from typing import TypeAlias

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from byenatos_sdk.protocol.messages import (
    Failure,
    Finish,
    InferenceRequest,
    Logprobs,
    Moved,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from byenatos_sdk.protocol.warm import Placed

__all__ = [
    "ACK_EVERY",
    "MAX_BODY",
    "MAX_HEADER",
    "MAX_REPLY",
    "MOST_EVENTS",
    "UNREADABLE",
    "Ack",
    "Beat",
    "Bye",
    "Call",
    "Cancel",
    "ClientEvent",
    "ClientHeader",
    "Drain",
    "DriverCall",
    "DriverEvent",
    "DriverHeader",
    "DriverHello",
    "Hello",
    "Imported",
    "Load",
    "Notice",
    "Open",
    "Pause",
    "Ready",
    "Refused",
    "Reply",
    "Resume",
    "Start",
    "Stop",
    "Welcome",
    "count_events",
    "decode_client_events",
    "decode_client_header",
    "decode_driver_events",
    "decode_request",
    "encode",
    "join_driver_frame",
    "split_driver_frame",
]

MOST_EVENTS = 4096
"""Events in the largest frame that a kernel takes from a driver."""

MAX_HEADER = 64 << 10
"""Bytes in the largest header that a kernel takes from a client."""

MAX_BODY = 32 << 20
"""Bytes in the largest body that a kernel takes from a client (images travel inline)."""

MAX_REPLY = 8 << 20
"""Bytes in the largest result of a call that a kernel takes from a driver."""

ACK_EVERY = 64
"""A client acknowledges after this many event frames; the kernel keeps at most four times as many on the way."""


# ---- client -> kernel ------------------------------------------------------------------------------------------


class Hello(Struct, frozen=True, array_like=True, tag=0):
    """The first message of a connection; the kernel answers event 0 with :class:`Welcome` or :class:`Refused`."""

    majors: tuple[int, ...]
    features: tuple[str, ...] = ()
    name: str = ""


class Open(Struct, frozen=True, array_like=True, tag=1):
    """Start a stream. ``id`` is the client's, unique among its running ones; ``target`` a slot or a model.

    ``timeout_ms`` and ``gap_timeout_ms`` of 0 mean the kernel's default.
    """

    id: int
    target: str
    session: str | None = None
    timeout_ms: int = 0
    gap_timeout_ms: int = 0


class Cancel(Struct, frozen=True, array_like=True, tag=2):
    """Stop a stream or a call; it still ends in exactly one terminal."""

    id: int


class Ack(Struct, frozen=True, array_like=True, tag=3):
    """``count`` more event frames were read."""

    count: int


class Pause(Struct, frozen=True, array_like=True, tag=4):
    """Hold one stream back (``on``) or let it go on, without touching the others."""

    id: int
    on: bool


class Call(Struct, frozen=True, array_like=True, tag=5):
    """Call a control method (see ``control``): :class:`Notice` events, then one :class:`Reply` or a failure."""

    id: int
    method: str


class Bye(Struct, frozen=True, array_like=True, tag=6):
    """The client leaves; its streams are cancelled and its state is dropped."""


ClientHeader: TypeAlias = Hello | Open | Cancel | Ack | Pause | Call | Bye


# ---- events, in both directions --------------------------------------------------------------------------------
# Tags 0 to 6 are the deltas of ``messages``.


class Welcome(Struct, frozen=True, array_like=True, tag=16):
    """The handshake succeeded: what both ends speak. Times in seconds; ``name`` is the kernel's version."""

    major: int
    features: tuple[str, ...] = ()
    heartbeat_s: float = 0.1
    name: str = ""


class Refused(Struct, frozen=True, array_like=True, tag=17):
    """The handshake failed; ``reason`` is a sentence for a human."""

    reason: str


class Reply(Struct, frozen=True, array_like=True, tag=18):
    """The result of a call: msgpack of the type that the method documents.

    A driver's frames are short: it sends a long result in pieces, all but the last with ``more``. A client gets it
    whole.
    """

    body: bytes
    more: bool = False


class Notice(Struct, frozen=True, array_like=True, tag=19):
    """Something that happened while a call is under way: msgpack of one ``control.Event``."""

    body: bytes


class DriverHello(Struct, frozen=True, array_like=True, tag=32):
    """The first message of a driver process. ``token`` was handed to it on an inherited descriptor, once."""

    token: str
    majors: tuple[int, ...]
    features: tuple[str, ...] = ()
    driver: str = ""
    version: str = ""
    pid: int = 0


class Imported(Struct, frozen=True, array_like=True, tag=33):
    """The driver's code is imported and its class made; loading the model starts now."""


class Ready(Struct, frozen=True, array_like=True, tag=34):
    """The model is loaded and the instance serves: msgpack of its ``ModelSpecification``."""

    body: bytes


class Beat(Struct, frozen=True, array_like=True, tag=35):
    """Alive, says a thread of its own. ``loop_age_ms``: since the event loop last turned; ``streams``: running."""

    loop_age_ms: int = 0
    streams: int = 0


ClientEvent: TypeAlias = (
    TextDelta
    | ReasoningDelta
    | ToolCallDelta
    | Logprobs
    | Moved
    | Finish
    | Failure
    | Welcome
    | Refused
    | Reply
    | Notice
)
DriverEvent: TypeAlias = (
    str  # a text delta, as in a driver's `infer`: what streams mostly consist of is a string and no object around it
    | ReasoningDelta
    | ToolCallDelta
    | Logprobs
    | Finish
    | Failure
    | Reply
    | DriverHello
    | Imported
    | Ready
    | Beat
)


# ---- kernel -> driver ------------------------------------------------------------------------------------------


class Load(Struct, frozen=True, array_like=True, tag=1):
    """Import the driver and load a model; the body is a ``control.LoadOrder``.

    Answered by :class:`Imported`, then :class:`Ready` or a failure, all with id 0.
    """


class Start(Struct, frozen=True, array_like=True, tag=2):
    """Start a stream; the body is the request. ``partial`` is the text that the answer already has."""

    id: int
    partial: str = ""


class Stop(Struct, frozen=True, array_like=True, tag=3):
    """End a stream at the next token boundary, or a call. No answer is owed: the kernel has forgotten the id."""

    id: int


class DriverCall(Struct, frozen=True, array_like=True, tag=4):
    """Call a driver method (see ``control.DRIVER_METHODS``); answered by Reply or Failure with the same id."""

    id: int
    method: str


class Drain(Struct, frozen=True, array_like=True, tag=5):
    """Finish the running streams, stop the driver, exit with status 0."""


class Resume(Struct, frozen=True, array_like=True, tag=6):
    """Start a stream from warm state (feature ``warm``); the body is the request.

    ``partial`` is the text that the answer had when the driver that ``progress`` comes from began it, ``said`` what it
    has said since. ``pieces`` in the arena follow those that were restored under ``id``.
    """

    id: int
    partial: str
    said: str
    progress: bytes
    pieces: tuple[Placed, ...] = ()


DriverHeader: TypeAlias = Welcome | Refused | Load | Start | Stop | DriverCall | Drain | Resume


# ---- codecs ----------------------------------------------------------------------------------------------------

encode = Encoder().encode
"""Encode any struct of this module, or a list of ``(id, event)``, to msgpack."""

decode_client_header = Decoder(ClientHeader).decode
decode_client_events = Decoder(list[tuple[int, ClientEvent]]).decode
decode_driver_events = Decoder(list[tuple[int, DriverEvent]]).decode
decode_request = Decoder(InferenceRequest).decode
_decode_driver_header = Decoder(DriverHeader).decode

UNREADABLE = (ValueError, RecursionError)
"""What a decoder raises on rubbish: msgspec's errors are ``ValueError``s, and so is a text that is not UTF-8; nesting
without end is a ``RecursionError``."""

_LENGTH = struct.Struct("<I")


def count_events(frame: bytes) -> int:
    """Read from the first bytes how many events a frame claims to hold; 0 if it is no list.

    A megabyte of the smallest events decodes to thirty of Python objects: look before decoding a large frame.
    """
    kind = frame[0] if frame else 0
    if kind & 0xF0 == 0x90:
        return kind & 0x0F
    if kind == 0xDC:
        return int.from_bytes(frame[1:3], "big")
    return int.from_bytes(frame[1:5], "big") if kind == 0xDD else 0


def join_driver_frame(header: DriverHeader, body: bytes | memoryview = b"") -> bytes:
    """Build the one frame that carries a header and its opaque body to a driver."""
    head = encode(header)
    return b"".join((_LENGTH.pack(len(head)), head, body))


def split_driver_frame(frame: bytes | memoryview) -> tuple[DriverHeader, memoryview]:
    """Take a frame from the kernel apart; raises ``ValueError`` (of which msgspec's errors are a kind) on rubbish."""
    view = memoryview(frame)
    if len(view) < _LENGTH.size:
        raise ValueError(f"expected at least {_LENGTH.size} bytes of header length, found {len(view)}")
    end = _LENGTH.size + _LENGTH.unpack_from(view)[0]
    if end > len(view):
        raise ValueError(f"expected a header that ends at byte {end}, found a frame of {len(view)} bytes")
    return _decode_driver_header(view[_LENGTH.size : end]), view[end:]
