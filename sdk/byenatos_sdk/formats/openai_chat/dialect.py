"""A dialect as a format: everything that ``contract.Format`` asks for, bound to one profile."""

from collections.abc import Sequence

from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.openai_chat import embeddings, errors, models, requests, responses
from byenatos_sdk.formats.openai_chat.profile import Profile
from byenatos_sdk.formats.openai_chat.reader import StreamDecoder
from byenatos_sdk.formats.openai_chat.writer import StreamEncoder
from byenatos_sdk.formats.wire import Decoded, Encoded, Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.errors import ByenatosError
from byenatos_sdk.protocol.messages import (
    EmbeddingRequest,
    EmbeddingResponse,
    InferenceRequest,
    InferenceResponse,
    ModelSpecification,
)

__all__ = ["Dialect"]


class Dialect:
    """OpenAI's Chat Completions as ``profile`` has it. Its methods are those of the contract."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.NAME = profile.name
        self.CAPABILITIES = profile.capabilities

    def encode_request(
        self,
        request: InferenceRequest,
        *,
        stream: bool = False,
        strict: bool = False,
        capabilities: Capabilities | None = None,
    ) -> Encoded:
        """Write a request."""
        return requests.encode_request(self.profile, request, stream=stream, strict=strict, capabilities=capabilities)

    def decode_request(self, wire: WireRequest) -> Decoded:
        """Read a client's request."""
        return requests.decode_request(self.profile, wire)

    def decode_response(self, wire: WireResponse) -> InferenceResponse:
        """Read an answer, the first if there are several."""
        return responses.decode_response(self.profile, wire)

    def decode_choices(self, wire: WireResponse) -> list[InferenceResponse]:
        """Read every answer."""
        return responses.decode_choices(self.profile, wire)

    def encode_response(self, response: InferenceResponse, reply: Reply) -> WireResponse:
        """Write a whole answer."""
        return responses.encode_response(self.profile, response, reply)

    def encode_choices(self, answers: Sequence[InferenceResponse], reply: Reply) -> WireResponse:
        """Write several answers to one request."""
        return responses.encode_choices(self.profile, answers, reply)

    def decode_error(self, wire: WireResponse) -> ByenatosError:
        """Read an error from any body."""
        return errors.decode_error(self.profile, wire)

    def encode_error(self, error: ByenatosError) -> WireResponse:
        """Write an error."""
        return errors.encode_error(error)

    def stream_decoder(self, *, choice: int = 0) -> StreamDecoder:
        """Return a decoder for one stream."""
        return StreamDecoder(self.profile, choice)

    def stream_encoder(self, reply: Reply) -> StreamEncoder:
        """Return an encoder for one stream."""
        return StreamEncoder(reply, self.profile)

    def choices_encoder(self, reply: Reply, choices: int) -> StreamEncoder:
        """Return an encoder for the streams of several answers to one request."""
        return StreamEncoder(reply, self.profile, choices)

    def encode_embedding_request(self, request: EmbeddingRequest) -> WireRequest:
        """Write a request for vectors."""
        return embeddings.encode_embedding_request(self.profile, request)

    def decode_embedding_request(self, wire: WireRequest) -> EmbeddingRequest:
        """Read a client's request for vectors."""
        return embeddings.decode_embedding_request(self.profile, wire)

    def decode_embedding_response(self, wire: WireResponse) -> EmbeddingResponse:
        """Read vectors."""
        return embeddings.decode_embedding_response(self.profile, wire)

    def encode_embedding_response(self, response: EmbeddingResponse, reply: Reply, asked: WireRequest) -> WireResponse:
        """Write vectors in the encoding that was asked for."""
        return embeddings.encode_embedding_response(self.profile, response, reply, asked)

    def encode_models_request(self, page: str = "") -> WireRequest:
        """Write the request for the list of models."""
        return models.encode_models_request(self.profile, page)

    def decode_models(self, wire: WireResponse) -> tuple[list[ModelSpecification], str]:
        """Read a list of models."""
        return models.decode_models(self.profile, wire)

    def encode_models(self, listed: Sequence[ModelSpecification], created: int) -> WireResponse:
        """Write a list of models."""
        return models.encode_models(self.profile, listed, created)

    def encode_model(self, model: ModelSpecification, created: int) -> WireResponse:
        """Write one model."""
        return models.encode_model(self.profile, model, created)
