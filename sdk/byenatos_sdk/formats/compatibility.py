"""The compatibility layer: it knows every format, recognises the one a client speaks, and translates between any two.

N formats give N times N translations, because each is a codec between its wire form and the canonical messages; a
translation is one format's decoder and another's encoder. What the second cannot say is in the loss report.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import NamedTuple
from urllib.parse import unquote

from byenatos_sdk.formats.contract import Format, StreamDecoder, StreamEncoder
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.wire import Decoded, Encoded, Loss, Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.errors import InvalidRequest, NotFound
from byenatos_sdk.protocol.messages import InferenceResponse

__all__ = ["VENDORS", "CompatibilityLayer", "Translated"]

VENDORS: Mapping[str, str] = {
    "openai": "openai_chat",
    "anthropic": "anthropic_messages",
    "google": "gemini",
    "huggingface": "huggingface_tgi",
    "baidu": "qianfan",
    "alibaba": "dashscope",
    "tencent": "hunyuan",
    "meta": "meta",
    "ollama": "ollama",
    "vllm": "vllm",
    "llama-server": "llamacpp_server",
    "openai-compatible": "openai_chat",
}
"""Each vendor's own format; most offer others besides."""

_SUFFIXES = (
    ("/chat/completions", "openai_chat"),
    ("/completions", "openai_chat"),
    ("/embeddings", "openai_chat"),
    ("/responses", "openai_responses"),
    ("/responses/input_tokens", "openai_responses"),
    ("/messages", "anthropic_messages"),
    ("/messages/count_tokens", "anthropic_messages"),
    (":generateContent", "gemini"),
    (":streamGenerateContent", "gemini"),
    (":countTokens", "gemini"),
    (":embedContent", "gemini"),
    (":batchEmbedContents", "gemini"),
    ("/generate", "huggingface_tgi"),
    ("/generate_stream", "huggingface_tgi"),
    ("/completion", "llamacpp_server"),
)
"""How paths end; those of whole prefixes (``/api/…``) are looked at first."""

_OLLAMA = frozenset({"chat", "generate", "embed", "embeddings", "tags", "show", "ps", "version"})
_OLLAMA_STORE = frozenset({"pull", "push", "create", "copy", "delete"})


class Translated(NamedTuple):
    """A client's request, as it was meant and as the target wants it."""

    decoded: Decoded
    encoded: Encoded

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What the target's format could not express."""
        return self.encoded.losses


class CompatibilityLayer:
    """Holds formats by name. A new one holds those that ship with the SDK; they are imported when first asked for."""

    def __init__(self) -> None:
        self._formats: dict[str, Format] = {}
        self._suffixes = list(_SUFFIXES)

    def register(self, format: object, *, paths: Iterable[str] = ()) -> None:
        """Add a third party's format; requests whose path ends in one of ``paths`` are recognised as its own.

        Raises:
            InvalidRequest: it lacks something of ``contract.Format``, or its name is taken.
        """
        if not isinstance(format, Format):
            methods = [name for name in dir(Format) if not name.startswith("_")]
            missing = [name for name in methods if not callable(getattr(format, name, None))]
            missing += [name for name in Format.__annotations__ if not hasattr(format, name)]
            raise InvalidRequest(f"format: expected everything that contract.Format names, found no {missing}")
        if format.NAME in self.names():
            raise InvalidRequest(f"format {format.NAME!r}: expected a name of its own, found one that is taken")
        self._formats[format.NAME] = format
        self._suffixes[:0] = [(path, format.NAME) for path in paths]

    def names(self) -> tuple[str, ...]:
        """Return the names of all formats."""
        return (*MATRIX, *(name for name in self._formats if name not in MATRIX))

    def format(self, name: str) -> Format:
        """Return a format by its name or by its vendor's.

        Raises:
            NotFound: there is none of that name; the message lists what there is.
        """
        name = VENDORS.get(name, name)
        if name not in self._formats:
            if name not in MATRIX:
                raise NotFound(f"format {name!r}: expected one of {', '.join(self.names())}")
            module: object = import_module(f"byenatos_sdk.formats.{name}")
            assert isinstance(module, Format)
            self._formats[name] = module
        return self._formats[name]

    def detect(self, request: WireRequest) -> str:
        """Return the name of the format that a client's request is in, by its path, then by its headers.

        Raises:
            NotFound: no format has such a path.
        """
        path = unquote(request.path.partition("?")[0])
        if "/services/aigc/" in path or "/services/embeddings/" in path:
            return "dashscope"
        _, api, verb = path.rpartition("/api/")
        if api and verb.split("/")[0] in _OLLAMA | _OLLAMA_STORE:
            return "ollama"
        if "x-tc-action" in request.headers:
            return "hunyuan"
        for suffix, name in self._suffixes:
            if path.endswith(suffix):
                return name
        if path.endswith("/models") or "/models/" in path:
            return self.asker(request)
        raise NotFound(f"{path}: expected a path of one of the formats {', '.join(self.names())}")

    def asker(self, request: WireRequest) -> str:
        """Return whose client asks where several vendors have an address, as that of the list of models, in common."""
        headers = request.headers
        path, _, query = request.path.partition("?")
        keyed = any(field.startswith("key=") for field in query.split("&"))
        google = keyed or "x-goog-api-key" in headers or "/v1beta/" in unquote(path)
        if google or "google-genai-sdk" in headers.get("user-agent", ""):
            return "gemini"
        return "anthropic_messages" if "anthropic-version" in headers else "openai_chat"

    # ---- from any to any -----------------------------------------------------------------------------------------

    def translate(
        self, request: WireRequest, target: str, *, source: str | None = None, strict: bool = False
    ) -> Translated:
        """Turn a request of one format into one of another; ``source`` is detected where it is not given.

        Raises:
            InvalidRequest: the request is wrong, or the target cannot say it (with ``strict``: not without loss).
            NotFound: there is no such format.
        """
        decoded = self.format(source or self.detect(request)).decode_request(request)
        encoded = self.format(target).encode_request(decoded.request, stream=decoded.stream, strict=strict)
        return Translated(decoded, encoded)

    def translate_response(self, response: WireResponse, source: str, target: str, reply: Reply) -> WireResponse:
        """Turn a whole answer, or an error, of one format into one of another."""
        read, write = self.format(source), self.format(target)
        if response.status >= 400:
            return write.encode_error(read.decode_error(response))
        answer: InferenceResponse = read.decode_response(response)
        return write.encode_response(answer, reply)

    def translate_stream(self, source: str, target: str, reply: Reply) -> "StreamTranslator":
        """Return what turns the bytes of one format's stream into another's."""
        return StreamTranslator(self.format(source).stream_decoder(), self.format(target).stream_encoder(reply))


class StreamTranslator:
    """Turns one stream's bytes into another format's, in pieces cut anywhere."""

    def __init__(self, decoder: StreamDecoder, encoder: StreamEncoder) -> None:
        self._decoder = decoder
        self._encoder = encoder

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return what they come to."""
        deltas = self._decoder.feed(data)
        return self._encoder.encode(deltas) if deltas else b""

    def end(self) -> bytes:
        """Hear that the source is closed; return the rest. A stream that broke off ends as a failure."""
        deltas = self._decoder.end()
        return self._encoder.encode(deltas) if deltas else b""
