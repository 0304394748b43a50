"""What a stream of an answer is made of, and how it ends."""

from typing import Literal, TypeAlias

from msgspec import Struct

__all__ = [
    "Delta",
    "Failure",
    "Finish",
    "FinishReason",
    "Logprobs",
    "Moved",
    "ReasoningDelta",
    "Terminal",
    "TextDelta",
    "TokenLogprob",
    "ToolCallDelta",
    "Usage",
]

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


class Usage(Struct, frozen=True, array_like=True, gc=False):
    """Tokens read and written by the instance that finished the answer; ``None``: it did not say.

    ``input_tokens`` includes ``cached_tokens`` (read from a cache) and ``cache_write_tokens`` (stored in one);
    ``output_tokens`` includes ``reasoning_tokens``.
    """

    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


class TextDelta(Struct, frozen=True, array_like=True, tag=0, gc=False):
    """The next piece of the answer's text: whole characters, never half of one."""

    text: str


class ReasoningDelta(Struct, frozen=True, array_like=True, tag=1, gc=False):
    """The next piece of the model's reasoning; the last piece may carry the vendor's signature (see ``Reasoning``)."""

    text: str
    signature: str | None = None
    source: str = ""
    redacted: bool = False


class ToolCallDelta(Struct, frozen=True, array_like=True, tag=2, gc=False):
    """A complete tool call: calls reach a client whole or not at all, so that a move cannot tear one."""

    id: str
    name: str
    arguments: str
    signature: str | None = None


class TokenLogprob(Struct, frozen=True, array_like=True):
    """One token with its natural-log probability and its best alternatives."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Logprobs(Struct, frozen=True, array_like=True, tag=3):
    """Log probabilities of the tokens that came with the preceding text."""

    tokens: tuple[TokenLogprob, ...]


class Moved(Struct, frozen=True, array_like=True, tag=4, gc=False):
    """For information: the stream goes on at another instance. ``source`` and ``target`` are model ids."""

    source: str
    target: str
    reason: str


class Finish(Struct, frozen=True, array_like=True, tag=5):
    """The answer is complete. ``model`` is the one that ended it (filled in by the kernel).

    ``detail`` refines ``reason`` where the vendor said more: ``stop_sequence`` (which one stands beside it),
    ``refusal``, ``context_length``, ``pause``, ``load``, ``unload``, or the vendor's own word if it has no equal here.
    ``adapted`` says what of the request the vendor's format could not express and what was done about it.
    """

    reason: FinishReason = "stop"
    usage: Usage = Usage()
    model: str = ""
    detail: str = ""
    stop_sequence: str | None = None
    adapted: tuple[str, ...] = ()


class Failure(Struct, frozen=True, array_like=True, tag=6):
    """The answer ends here with an error; ``partial`` says that part of it was delivered."""

    code: str
    message: str
    retry_after_s: float | None = None
    partial: bool = False


Terminal: TypeAlias = Finish | Failure


Delta: TypeAlias = TextDelta | ReasoningDelta | ToolCallDelta | Logprobs | Moved | Finish | Failure
