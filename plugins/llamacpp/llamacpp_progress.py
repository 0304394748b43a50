"""What an answer needs beside its context to go on in another instance: how it began, and what is not in the context.

The text so far is not in it: it follows from the tokens. Nor is the sampler: what it draws follows from the seed and
the position, and what its penalties look back at are the tokens.
"""

import msgspec
from msgspec import Struct

from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import TokenLogprob

__all__ = ["Opening", "Progress", "read_progress"]

MAX_TOKENS = 1 << 24


class Opening(Struct, frozen=True):
    """How an answer began.

    ``prompt_tokens`` were asked, of which ``begin`` come before the first token that is chosen (the seam takes some
    back: ``seam`` is their text, ``None`` without one). ``stops`` and ``lstrip`` are the prompt's (``Prompt``).
    """

    prompt_tokens: int
    begin: int
    seam: bytes | None
    stops: tuple[str, ...]
    lstrip: bool


class Progress(Struct, frozen=True):
    """Where an answer stands. ``tail`` are the tokens that are known and not yet in the context.

    ``logprobs`` are those of tokens whose text is held back, each with its first byte in the answer and its last.
    """

    opening: Opening
    seed: int
    cached_tokens: int
    tail: list[int]
    logprobs: tuple[tuple[int, int, TokenLogprob], ...] = ()

    def encode(self) -> bytes:
        """Encode it to bytes."""
        return msgspec.msgpack.encode(self)


def read_progress(data: bytes) -> Progress:
    """Decode a :class:`Progress`.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        progress = msgspec.msgpack.decode(data, type=Progress)
    except (msgspec.ValidationError, msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"expected the progress of an answer: {error}") from None
    if len(progress.tail) > MAX_TOKENS or not 0 < progress.opening.begin <= MAX_TOKENS:
        raise InvalidRequest("expected the progress of an answer, found one without end")
    return progress
