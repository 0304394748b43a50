"""What holds for every format's streams, whatever they say."""

import itertools
from collections.abc import Sequence

from byenatos_sdk.formats.contract import Format
from byenatos_sdk.protocol.messages import Delta, Failure, Finish, ReasoningDelta, TextDelta

__all__ = ["decoded", "holds_for_any_bytes", "joined", "same_however_cut"]


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
