"""A format of a third party's, whole: a vendor whose API no other resembles. Its answers are lines of JSON."""

from collections.abc import Iterable

import msgspec

from byenatos_sdk.formats.adapt import adapt
from byenatos_sdk.formats.capabilities import Capabilities, Limit
from byenatos_sdk.formats.failures import body_of, failure
from byenatos_sdk.formats.ndjson import LineReader
from byenatos_sdk.formats.streams import UnitDecoder
from byenatos_sdk.formats.wire import Decoded, Encoded, Reply, WireRequest, WireResponse, json_body, read_as
from byenatos_sdk.protocol.errors import ByenatosError, UpstreamFailed
from byenatos_sdk.protocol.messages import (
    Delta,
    Failure,
    Finish,
    InferenceRequest,
    InferenceResponse,
    Message,
    Sampling,
    Text,
    TextDelta,
    Usage,
    assistant,
)

NAME = "quill"
CAPABILITIES = Capabilities(NAME, {"temperature": Limit("heat", 0, 1), "max_tokens": Limit("cap", 1)})
BY = {"system": "boss", "user": "human", "assistant": "quill"}
ROLES = {by: role for role, by in BY.items()}


class Line(msgspec.Struct):
    by: str
    say: str


class Asked(msgspec.Struct, omit_defaults=True):
    who: str
    lines: list[Line]
    heat: float | None = None
    cap: int | None = None
    flow: bool = False


class Said(msgspec.Struct, omit_defaults=True):
    say: str = ""
    over: bool = False
    cost: tuple[int, int] = (0, 0)
    oops: str | None = None


asked_decoder = msgspec.json.Decoder(Asked)
said_decoder = msgspec.json.Decoder(Said)


def encode_request(
    request: InferenceRequest,
    *,
    stream: bool = False,
    strict: bool = False,
    capabilities: Capabilities | None = None,
) -> Encoded:
    fitted = adapt(request, capabilities or CAPABILITIES, strict=strict)
    lines = [Line(BY[one.role], one.text) for one in fitted.request.messages]
    sampling = fitted.request.sampling
    asked = Asked(fitted.request.model, lines, sampling.temperature, sampling.max_tokens, stream)
    return Encoded(WireRequest("/v2/talk", json_body(asked)), fitted.losses, fitted.stops, fitted.tools)


def decode_request(wire: WireRequest) -> Decoded:
    asked = read_as(asked_decoder, wire.body)
    messages = tuple(Message(ROLES.get(one.by, "user"), (Text(one.say),)) for one in asked.lines)
    sampling = Sampling(temperature=asked.heat, max_tokens=asked.cap)
    return Decoded(InferenceRequest(messages, model=asked.who, sampling=sampling), asked.flow)


def decode_response(wire: WireResponse) -> InferenceResponse:
    said = read_as(said_decoder, wire.body)
    if said.oops is not None or not said.over:
        raise UpstreamFailed(said.oops or "expected a whole answer")
    return InferenceResponse(assistant(said.say), "stop", Usage(*said.cost), "")


def encode_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    return WireResponse(json_body(Said(response.text, over=True, cost=cost_of(response.usage))))


def cost_of(usage: Usage) -> tuple[int, int]:
    return usage.input_tokens or 0, usage.output_tokens or 0


def decode_error(wire: WireResponse) -> ByenatosError:
    body = body_of(wire)
    return failure(wire, str(body.get("oops", "")) if isinstance(body, dict) else "")


def encode_error(error: ByenatosError) -> WireResponse:
    return WireResponse(json_body(Said(oops=error.message)), 400)


class StreamDecoder(UnitDecoder[bytes]):
    def __init__(self) -> None:
        super().__init__(LineReader())

    def read(self, unit: bytes) -> None:
        said = read_as(said_decoder, unit, "line")
        if said.oops is not None:
            self.fail(UpstreamFailed(said.oops))
            return
        if said.say:
            self.say(TextDelta(said.say))
        if said.over:
            self.say(Finish("stop", Usage(*said.cost)))


class StreamEncoder:
    content_type = "application/x-ndjson"

    def encode(self, deltas: Iterable[Delta]) -> bytes:
        return b"".join(json_body(said) + b"\n" for said in map(self.line, deltas) if said is not None)

    def line(self, delta: Delta) -> Said | None:
        if isinstance(delta, TextDelta):
            return Said(delta.text)
        if isinstance(delta, Finish):
            return Said(over=True, cost=cost_of(delta.usage))
        return Said(oops=delta.message) if isinstance(delta, Failure) else None

    def keep_alive(self) -> bytes:
        return b"\n"


def stream_decoder(*, choice: int = 0) -> StreamDecoder:
    return StreamDecoder()


def stream_encoder(reply: Reply) -> StreamEncoder:
    return StreamEncoder()
