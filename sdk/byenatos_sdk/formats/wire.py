"""What goes over the wire to and from a vendor, as values: formats turn these into messages and back, without I/O."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from byenatos_sdk.protocol.errors import InvalidRequest, RequestTooLarge
from byenatos_sdk.protocol.messages import InferenceRequest, Value

__all__ = [
    "MAX_BODY",
    "Action",
    "Decoded",
    "Encoded",
    "Loss",
    "Reply",
    "ToolReading",
    "WireRequest",
    "WireResponse",
    "json_body",
    "read_as",
    "read_json",
    "read_object",
]

MAX_BODY = 64 << 20
"""Bytes of the largest body that is read: images travel inside it."""

Action: TypeAlias = Literal["dropped", "clamped", "merged", "moved", "emulated", "renamed"]

T = TypeVar("T")

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class WireRequest(Value, frozen=True):
    """An HTTP request; names of ``headers`` are in lower case.

    ``path`` is relative to the vendor's base address when it goes out, the whole path with its query when it comes in.
    """

    path: str
    body: bytes = b""
    headers: dict[str, str] = {}
    method: str = "POST"


class WireResponse(Value, frozen=True):
    """An HTTP response; names of ``headers`` are in lower case."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = {}


class Loss(Value, frozen=True):
    """Something in a request that the target's format cannot say as it was said, and what was done about it."""

    parameter: str
    action: Action
    reason: str

    def __str__(self) -> str:
        return f"{self.parameter}: {self.action}: {self.reason}"


class ToolReading(Value, frozen=True):
    """How whoever reads an answer finds the calls in it.

    ``names``: by the name that the vendor was told the one that the application knows (``tool_names``). ``worded``: the
    tools that the model was told of in words and calls in its text (``worded_tools.WordedCalls``), ``several`` of them
    or one, after as many as were ``made`` earlier in the conversation.
    """

    names: dict[str, str] = {}
    worded: tuple[str, ...] = ()
    several: bool = True
    made: int = 0


class Encoded(Value, frozen=True):
    """A request as the vendor wants it.

    ``losses`` is everything that did not come across. ``stops`` are stop sequences that the vendor cannot be told:
    whoever reads the answer ends it there (``stops.StopCutter``). ``tools``: what must be known to read its calls.
    """

    wire: WireRequest
    losses: tuple[Loss, ...] = ()
    stops: tuple[str, ...] = ()
    tools: ToolReading | None = None


class Decoded(Value, frozen=True):
    """A client's request as it was meant.

    ``stream``: whether the answer is to come in pieces; ``usage_in_stream``: whether the stream is to say its usage;
    ``choices``: how many answers are asked for, to the request and to each of the ``others`` that came with it
    (completions take several texts at once); ``action``: ``load`` or ``unload`` where the request has no prompt and
    means the model itself; ``path`` is where it came in, without its query: some formats answer differently by it;
    ``echo``: the answer is to begin with the text that it continues; ``one_call``: the client knows a single call of a
    tool, in the field that OpenAI had before there were several.
    """

    request: InferenceRequest
    stream: bool = False
    usage_in_stream: bool = True
    choices: int = 1
    action: Literal["infer", "load", "unload"] = "infer"
    path: str = ""
    others: tuple[InferenceRequest, ...] = ()
    echo: bool = False
    one_call: bool = False


class Reply(Value, frozen=True):
    """What an answer's encoder must know beyond the answer. ``created`` in whole seconds since the epoch.

    ``asked`` is the request that is answered; formats that echo parameters or choose a shape by them look there.
    ``asked_s`` and ``begun_s`` are when it came and when its answer began, by the monotonic clock, for formats that
    tell how long both took; 0: not known.
    """

    id: str
    model: str
    created: int
    asked: Decoded | None = None
    asked_s: float = 0.0
    begun_s: float = 0.0

    @property
    def one_call(self) -> bool:
        """Whether the client knows a single call of a tool only."""
        return self.asked is not None and self.asked.one_call

    @property
    def usage_in_stream(self) -> bool:
        """Whether the client wants the usage in the stream."""
        return self.asked is None or self.asked.usage_in_stream


def json_body(value: Any) -> bytes:
    """Encode ``value`` as JSON, UTF-8."""
    return _encode(value)


def read_json(body: bytes, what: str = "body") -> Any:
    """Decode JSON.

    Raises:
        InvalidRequest: ``body`` is not JSON.
        RequestTooLarge: it is larger than ``MAX_BODY``.
    """
    if len(body) > MAX_BODY:
        raise RequestTooLarge(f"{what}: expected at most {MAX_BODY} bytes, found {len(body)}")
    try:
        return _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{what}: expected JSON, found: {error}") from None


def read_as(decoder: msgspec.json.Decoder[T], body: bytes, what: str = "body") -> T:
    """Decode JSON of a known shape: unknown fields are ignored, wrong types are named with their field.

    ``what`` is where it stands: before the fields of all but the ``body`` itself.

    Raises:
        InvalidRequest: ``body`` is not JSON, or not of this shape.
        RequestTooLarge: it is larger than ``MAX_BODY``.
    """
    if len(body) > MAX_BODY:
        raise RequestTooLarge(f"{what}: expected at most {MAX_BODY} bytes, found {len(body)}")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        field = place.rstrip("`").lstrip(".")
        if what != "body" or not field:
            field = f"{what}.{field}" if field and not field.startswith("[") else f"{what}{field}"
        raise InvalidRequest(f"{field}: {problem[:1].lower()}{problem[1:].replace(', got ', ', found ')}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{what}: expected JSON, found: {error}") from None


def read_object(body: bytes, what: str = "body") -> Mapping[str, Any]:
    """Decode a JSON object.

    Raises:
        InvalidRequest: ``body`` is not a JSON object.
        RequestTooLarge: it is larger than ``MAX_BODY``.
    """
    value = read_json(body, what)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what}: expected a JSON object, found {type(value).__name__}")
    return value
