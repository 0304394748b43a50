import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats import strategies
from tests.sdk.formats.cases import (
    Case,
    assert_deltas,
    assert_error,
    assert_request,
    assert_response,
    deltas_of_meaning,
    load,
    pieces,
    request_of,
    response_of,
    wire_request,
    wire_response,
)
from tests.sdk.formats.laws import decoded, holds_for_any_bytes, joined, same_however_cut

from byenatos_sdk.formats import gemini
from byenatos_sdk.formats.contract import EmbeddingFormat, Format, ModelListFormat, TokenCountFormat
from byenatos_sdk.formats.wire import Decoded, Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.answer import Answer, deltas_of
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    InvalidRequest,
    NotFound,
    Overloaded,
    Unsupported,
    UpstreamFailed,
    error_codes,
    error_from_code,
)
from byenatos_sdk.protocol.messages import (
    Audio,
    EmbeddingRequest,
    EmbeddingResponse,
    Failure,
    File,
    Finish,
    Image,
    InferenceRequest,
    InferenceResponse,
    Logprobs,
    Message,
    ModelSpecification,
    Moved,
    Reasoning,
    ReasoningDelta,
    ReasoningOptions,
    Sampling,
    Text,
    TextDelta,
    TokenCount,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    assistant,
    system,
    user,
)

REPLY = Reply("r1", "gemini-x", 1763800000)
ARRAY = replace(REPLY, asked=Decoded(InferenceRequest((user("x"),), extra={"format": "gemini", "alt": "json"})))
PATH = "/v1beta/models/gemini-x:generateContent"
WEATHER = Tool("get_weather", "Current weather", {"type": "object", "properties": {"city": {"type": "string"}}})


def cases(*kinds: str) -> list[Case]:
    found = load("gemini", *kinds) + load("gemini_own", *kinds)
    return [case for case in found if "models" not in case.meaning]


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request's body with the user's role and with tools' schemas where this format writes them."""
    found = json.loads(json.dumps(body))
    for content in found.get("contents", ()):
        content.setdefault("role", "user")
    for group in found.get("tools", ()):
        for one in group.get("functionDeclarations", ()):
            schema = json.dumps(one.pop("parameters", one.get("parametersJsonSchema", {})))
            one["parametersJsonSchema"] = json.loads(
                schema.replace('"OBJECT"', '"object"').replace('"STRING"', '"string"')
            )
    return found


def sent(request: InferenceRequest, **options: Any) -> dict[str, Any]:
    return json.loads(gemini.encode_request(request, **options).wire.body)


def read(body: dict[str, Any], path: str = PATH) -> Decoded:
    return gemini.decode_request(WireRequest(path, json.dumps(body).encode()))


def asking(*messages: Message, **fields: Any) -> InferenceRequest:
    return InferenceRequest(messages or (user("Hi"),), **fields)


def test_the_module_is_a_format_with_everything_else_too():
    for protocol in (Format, EmbeddingFormat, ModelListFormat, TokenCountFormat):
        assert isinstance(gemini, protocol)


# ---- cases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", cases("request"), ids=str)
def test_a_request_is_read_as_it_was_meant(case):
    wire = wire_request(case)
    if "countTokens" in wire.path:
        assert_request(Decoded(gemini.decode_count_request(wire)), case.meaning)
    else:
        assert_request(gemini.decode_request(wire), case.meaning)


@pytest.mark.parametrize("case", [one for one in cases("request") if "countTokens" not in one.wire["path"]], ids=str)
def test_a_request_that_was_read_is_written_as_it_came(case):
    read = gemini.decode_request(wire_request(case))
    encoded = gemini.encode_request(read.request, stream=read.stream)
    assert encoded.losses == ()
    assert encoded.wire.path.replace("v1beta", "v1") == case.wire["path"].replace("v1beta", "v1").replace(
        "m:fast", "m%3Afast"
    )
    assert normal(json.loads(encoded.wire.body)) == normal(case.meaning.get("written", case.wire["body"]))


@pytest.mark.parametrize("case", load("gemini", "request"), ids=str)
def test_a_meaning_is_written_as_the_vendor_takes_it(case):
    encoded = gemini.encode_request(request_of(case.meaning), stream=case.meaning["stream"])
    assert encoded.losses == ()
    assert encoded.wire.path == case.wire["path"]
    assert normal(json.loads(encoded.wire.body)) == normal(case.wire["body"])


@pytest.mark.parametrize("case", [one for one in cases("response") if one.meaning.get("finish") != "error"], ids=str)
def test_a_response_is_read_as_it_was_meant(case):
    assert_response(gemini.decode_response(wire_response(case)), case.meaning)


@pytest.mark.parametrize(
    "case", [one for one in cases("response", "stream") if one.meaning.get("finish") not in {None, "unknown"}], ids=str
)
def test_an_answer_is_written_so_that_it_reads_the_same(case):
    response = response_of(case.meaning)
    assert_response(gemini.decode_response(gemini.encode_response(response, REPLY)), case.meaning)
    for reply in (REPLY, ARRAY):
        raw = gemini.stream_encoder(reply).encode(deltas_of_meaning(case.meaning))
        assert_deltas(decoded(gemini, [raw]), case.meaning)


@pytest.mark.parametrize("case", cases("stream"), ids=str)
def test_a_stream_is_read_as_it_was_meant(case):
    deltas = decoded(gemini, pieces(case))
    assert_deltas(deltas, case.meaning)
    if isinstance(deltas[-1], Failure):
        assert deltas[-1].partial == bool(case.meaning.get("text"))


@pytest.mark.parametrize("case", cases("error"), ids=str)
def test_an_error_is_read_as_it_was_meant(case):
    assert_error(gemini.decode_error(wire_response(case)), case.meaning)
