"""What holds for every format, whatever it is sent."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from byenatos_sdk.formats.contract import Format
from byenatos_sdk.formats.wire import WireRequest
from byenatos_sdk.protocol.errors import ByenatosError, InvalidRequest
from byenatos_sdk.protocol.frames import encode
from byenatos_sdk.protocol.messages import Delta, Failure, Finish, ReasoningDelta, TextDelta

__all__ = [
    "answers_or_fails",
    "decoded",
    "holds_for_any_bytes",
    "joined",
    "reads_or_refuses",
    "same_however_cut",
    "travels",
]


def travels(value: Any) -> None:
    """A struct is well formed: what it is encoded to is read as its kind again, and is the same then."""
    data = encode(value)
    assert encode(msgspec.msgpack.decode(data, type=type(value))) == data


def reads_or_refuses(format: Format, wire: WireRequest) -> None:
    """A request of any kind is read as one that can travel, or refused as invalid; nothing else is raised."""
    try:
        found = format.decode_request(wire)
    except InvalidRequest:
        return
    travels(found.request)


def answers_or_fails(read: Callable[[], Any]) -> None:
    """An answer of any kind is read as one that can travel, or is an error of ours; nothing else is raised."""
    try:
        found = read()
    except ByenatosError:
        return
    for one in found if isinstance(found, list | tuple) else [found]:
        if isinstance(one, msgspec.Struct):
            travels(one)


def decoded(format: Format, pieces: Sequence[bytes], *, choice: int = 0) -> list[Delta]:
    """Return what a stream in these pieces decodes to, up to the close of its connection."""
    decoder = format.stream_decoder(choice=choice)
    return [delta for piece in pieces for delta in decoder.feed(piece)] + decoder.end()


def joined(deltas: Sequence[Delta]) -> list[Delta]:
    """Put neighbouring pieces of text, and of reasoning, together: where they were cut means nothing."""
    found: list[Delta] = []
    for delta in deltas:
        last = found[-1] if found else None
        if isinstance(delta, TextDelta) and isinstance(last, TextDelta):
            found[-1] = TextDelta(last.text + delta.text)
        elif isinstance(delta, ReasoningDelta) and isinstance(last, ReasoningDelta) and last.signature is None:
            found[-1] = ReasoningDelta(last.text + delta.text, delta.signature, delta.source, delta.redacted)
        else:
            found.append(delta)
    return found


def same_however_cut(format: Format, raw: bytes, cuts: Sequence[int]) -> None:
    """Decode ``raw`` whole, byte by byte, and cut at ``cuts``: the deltas are the same."""
    whole = decoded(format, [raw])
    assert decoded(format, [raw[at : at + 1] for at in range(len(raw))]) == whole
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    assert decoded(format, [raw[first:last] for first, last in itertools.pairwise(edges)]) == whole


def holds_for_any_bytes(format: Format, pieces: Sequence[bytes]) -> None:
    """Feed bytes of any kind: nothing is raised, and the stream ends in exactly one terminal, its last delta."""
    decoder = format.stream_decoder()
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)] + decoder.end()
    assert [delta for delta in deltas if isinstance(delta, Finish | Failure)] == deltas[-1:]
    assert len(deltas[-1:]) == 1
    assert decoder.feed(b"data: {}\n\n") == []
    assert decoder.end() == []
