"""Whole answers, each in one piece."""

from byenatos_sdk.protocol.messages.deltas import FinishReason, Moved, TokenLogprob, Usage
from byenatos_sdk.protocol.messages.parts import Message
from byenatos_sdk.protocol.messages.value import Value

__all__ = ["EmbeddingResponse", "InferenceResponse", "TokenCount", "Tokens"]


class InferenceResponse(Value, frozen=True):
    """A whole answer: what a stream's deltas add up to. ``detail``, ``stop_sequence``, ``adapted``: see ``Finish``."""

    message: Message
    reason: FinishReason
    usage: Usage
    model: str
    moves: tuple[Moved, ...] = ()
    detail: str = ""
    stop_sequence: str | None = None
    adapted: tuple[str, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.message.text


class EmbeddingResponse(Value, frozen=True):
    """One vector for each input, in their order."""

    vectors: tuple[tuple[float, ...], ...]
    model: str = ""
    usage: Usage = Usage()


class TokenCount(Value, frozen=True):
    """How many tokens a request's input comes to, in the model's own tokens and with its chat template."""

    input_tokens: int
    model: str = ""


class Tokens(Value, frozen=True):
    """Tokens by their number in the vocabulary, and the bytes that each stands for: together they are ``text``."""

    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """What they say; bytes that are no UTF-8 are replaced."""
        return b"".join(self.pieces).decode("utf-8", "replace")
