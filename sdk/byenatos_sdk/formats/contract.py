"""What a format is: a module (or any object) with these names. ``CompatibilityLayer.register`` takes third parties'.

Encoders and decoders are pure: bytes in, values out, no clock, no sockets, no state but a stream's own. A decoder of
foreign bytes raises nothing but the errors of ``byenatos_sdk.protocol.errors`` and holds no more than its limits say.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.wire import Decoded, Encoded, Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import (
    Delta,
    EmbeddingRequest,
    EmbeddingResponse,
    InferenceRequest,
    InferenceResponse,
    ModelSpecification,
    TokenCount,
)

__all__ = [
    "ChoicesEncoder",
    "ChoicesFormat",
    "ChoicesStreamFormat",
    "EmbeddingFormat",
    "Format",
    "ModelListFormat",
    "StreamDecoder",
    "StreamEncoder",
    "TokenCountFormat",
]


class StreamDecoder(Protocol):
    """Reads one answer's stream, in pieces cut anywhere."""

    def feed(self, data: bytes) -> list[Delta]:
        """Take the next bytes and return the deltas that are complete now; after a terminal always nothing.

        What breaks the format or its limits ends the stream with a ``Failure``; nothing is raised.
        """

    def end(self) -> list[Delta]:
        """Hear that the connection is closed: return what is left, with a terminal if there was none yet.

        A stream that ended too early ends in ``Failure("stream_interrupted", partial=...)``, never in a ``Finish``.
        """


class StreamEncoder(Protocol):
    """Writes one answer's stream."""

    content_type: str

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        """Return the bytes that say ``deltas``; the first call also opens the stream, a terminal closes it."""

    def keep_alive(self) -> bytes:
        """Return bytes that mean nothing and that every client of this format tolerates; empty if there are none."""


class ChoicesEncoder(Protocol):
    """Writes the streams of several answers to one request into one; it is over when all of them are."""

    content_type: str

    def encode(self, deltas: Iterable[Delta], choice: int = 0) -> bytes:
        """Return the bytes that say ``deltas`` of one of the answers."""

    def keep_alive(self) -> bytes:
        """Return bytes that mean nothing and that every client of this format tolerates; empty if there are none."""


@runtime_checkable
class Format(Protocol):
    """One API's wire form, in both directions."""

    NAME: str
    CAPABILITIES: Capabilities

    def encode_request(
        self,
        request: InferenceRequest,
        *,
        stream: bool = False,
        strict: bool = False,
        capabilities: Capabilities | None = None,
    ) -> Encoded:
        """Write a request; ``capabilities`` are those of the very model, if they differ from the format's.

        Raises:
            InvalidRequest: the format cannot say it, and ``strict`` is set or there is nothing to replace it by.
        """

    def decode_request(self, wire: WireRequest) -> Decoded:
        """Read a client's request; unknown fields are ignored, ``null`` means absent.

        Raises:
            InvalidRequest: the request is wrong; the message names the field.
        """

    def decode_response(self, wire: WireResponse) -> InferenceResponse:
        """Read a whole answer.

        Raises:
            ByenatosError: the body is an error (whatever its status), or no answer at all.
        """

    def encode_response(self, response: InferenceResponse, reply: Reply) -> WireResponse:
        """Write a whole answer."""

    def decode_error(self, wire: WireResponse) -> ByenatosError:
        """Read an error from any body, however odd; the vendor's own text is kept."""

    def encode_error(self, error: ByenatosError) -> WireResponse:
        """Write an error with the status that this format's clients expect."""

    def stream_decoder(self, *, choice: int = 0) -> StreamDecoder:
        """Return a decoder for one stream; ``choice`` is the answer that is read where there are several."""

    def stream_encoder(self, reply: Reply) -> StreamEncoder:
        """Return an encoder for one stream."""


@runtime_checkable
class ChoicesFormat(Protocol):
    """A format that can say several answers to one request: for each of its texts all choices, one after the other."""

    def encode_choices(self, answers: Sequence[InferenceResponse], reply: Reply) -> WireResponse: ...


@runtime_checkable
class ChoicesStreamFormat(ChoicesFormat, Protocol):
    """One that can say them in a stream too."""

    def choices_encoder(self, reply: Reply, choices: int) -> ChoicesEncoder: ...


@runtime_checkable
class EmbeddingFormat(Protocol):
    """A format that can say embeddings."""

    def encode_embedding_request(self, request: EmbeddingRequest) -> WireRequest: ...
    def decode_embedding_request(self, wire: WireRequest) -> EmbeddingRequest: ...
    def decode_embedding_response(self, wire: WireResponse) -> EmbeddingResponse: ...
    def encode_embedding_response(
        self, response: EmbeddingResponse, reply: Reply, asked: WireRequest
    ) -> WireResponse: ...


@runtime_checkable
class ModelListFormat(Protocol):
    """A format that can list models. ``encode_models_request`` takes the token of the page that is wanted."""

    def encode_models_request(self, page: str = "") -> WireRequest: ...
    def decode_models(self, wire: WireResponse) -> tuple[list[ModelSpecification], str]: ...
    def encode_models(self, models: Sequence[ModelSpecification], created: int) -> WireResponse: ...


@runtime_checkable
class TokenCountFormat(Protocol):
    """A format that can count a request's tokens."""

    def encode_count_request(self, request: InferenceRequest) -> WireRequest: ...
    def decode_count_request(self, wire: WireRequest) -> InferenceRequest: ...
    def decode_count(self, wire: WireResponse) -> TokenCount: ...
    def encode_count(self, count: TokenCount) -> WireResponse: ...


def offers(format: Any, what: type) -> bool:
    """Say whether ``format`` has every name of the protocol ``what``."""
    return isinstance(format, what)
