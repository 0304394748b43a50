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

from byenatos_sdk.formats import anthropic_messages as anthropic
from byenatos_sdk.formats.contract import EmbeddingFormat, Format, ModelListFormat, TokenCountFormat
from byenatos_sdk.formats.wire import Decoded, Reply, WireRequest, WireResponse
from byenatos_sdk.protocol.answer import Answer, deltas_of
from byenatos_sdk.protocol.errors import (
    ByenatosError,
    ContextLengthExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    Unsupported,
    UpstreamFailed,
    error_codes,
    error_from_code,
)
from byenatos_sdk.protocol.messages import (
    Audio,
    Failure,
    File,
    Finish,
    Image,
    InferenceRequest,
    InferenceResponse,
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
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    assistant,
    system,
    user,
)

OLD, NEW = "2023-06-01", "2026-10-21"
REPLY = Reply("msg_1", "claude-x", 1763800000)
WEATHER = Tool("get_weather", "Current weather", {"type": "object", "properties": {"city": {"type": "string"}}})


def cases(*kinds: str) -> list[Case]:
    return load("anthropic", *kinds) + load("anthropic_own", *kinds)


def meaning_of(case: Case) -> dict[str, Any]:
    """Return a case's meaning with the tools that its wire declares: one case leaves them out."""
    if case.id != "anthropic/req-thinking-replay":
        return case.meaning
    (tool,) = case.wire["body"]["tools"]
    declared = {"name": tool["name"], "description": tool["description"], "schema": tool["input_schema"]}
    return case.meaning | {"tools": [declared]}


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request's body with every content as blocks: a string is short for one text."""
    found = json.loads(json.dumps(body))
    if isinstance(found.get("system"), str):
        found["system"] = [{"type": "text", "text": found["system"]}]
    for message in found["messages"]:
        if isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
        for block in message["content"]:
            content = block.get("content")
            if block["type"] == "tool_result" and isinstance(content, list) and len(content) == 1:
                block["content"] = content[0]["text"]
    return found


def sent(request: InferenceRequest, **options: Any) -> dict[str, Any]:
    return json.loads(anthropic.encode_request(request, **options).wire.body)


def read(body: dict[str, Any], version: str = NEW) -> Decoded:
    headers = {"anthropic-version": version}
    return anthropic.decode_request(WireRequest("/v1/messages", json.dumps(body).encode(), headers))


def asking(*messages: Message, **fields: Any) -> InferenceRequest:
    return InferenceRequest(messages or (user("Hi"),), **fields)


def test_the_module_is_a_format_with_lists_of_models_and_token_counts():
    assert isinstance(anthropic, Format)
    assert isinstance(anthropic, ModelListFormat)
    assert isinstance(anthropic, TokenCountFormat)
    assert not isinstance(anthropic, EmbeddingFormat)


# ---- cases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [one for one in cases("request") if "partly" not in one.meaning], ids=str)
def test_a_request_is_read_as_it_was_meant(case):
    if "count" in case.wire["path"]:
        found = Decoded(anthropic.decode_count_request(wire_request(case)))
    else:
        found = anthropic.decode_request(wire_request(case))
    assert_request(found, meaning_of(case))


@pytest.mark.parametrize("case", cases("request"), ids=str)
def test_a_request_that_was_read_is_written_as_it_came(case):
    if "count" in case.wire["path"]:
        wire = anthropic.encode_count_request(anthropic.decode_count_request(wire_request(case)))
        assert (wire.path, normal(json.loads(wire.body))) == (case.wire["path"], normal(case.wire["body"]))
        return
    read = anthropic.decode_request(wire_request(case))
    encoded = anthropic.encode_request(read.request, stream=read.stream)
    assert encoded.losses == ()
    assert normal(json.loads(encoded.wire.body)) == normal(case.meaning.get("written", case.wire["body"]))
    for name in ("anthropic-version", "anthropic-beta"):
        wanted = {key.lower(): value for key, value in case.wire["headers"].items()}.get(name)
        assert encoded.wire.headers.get(name) == wanted


@pytest.mark.parametrize(
    "case", [one for one in load("anthropic", "request") if one.id != "anthropic/req-images-doc-cache"], ids=str
)
def test_a_meaning_is_written_as_the_vendor_takes_it(case):
    encoded = anthropic.encode_request(request_of(meaning_of(case)), stream=case.meaning["stream"])
    assert encoded.losses == ()
    assert encoded.wire.path == case.wire["path"]
    assert normal(json.loads(encoded.wire.body)) == normal(case.wire["body"])


@pytest.mark.parametrize("case", [one for one in cases("response") if "finish" in one.meaning], ids=str)
def test_a_response_is_read_as_it_was_meant(case):
    assert_response(anthropic.decode_response(wire_response(case)), case.meaning)


@pytest.mark.parametrize(
    "case",
    [
        one
        for one in cases("response", "stream")
        if one.meaning.get("finish") not in {None, "unknown"} and one.id != "anthropic_own/resp-redacted"
    ],
    ids=str,
)
def test_an_answer_is_written_so_that_it_reads_the_same(case):
    response = response_of(case.meaning)
    assert_response(anthropic.decode_response(anthropic.encode_response(response, REPLY)), case.meaning)
    raw = anthropic.stream_encoder(REPLY).encode(deltas_of_meaning(case.meaning))
    assert_deltas(decoded(anthropic, [raw]), case.meaning)


@pytest.mark.parametrize("case", cases("stream"), ids=str)
def test_a_stream_is_read_as_it_was_meant(case):
    deltas = decoded(anthropic, pieces(case))
    assert_deltas(deltas, case.meaning)
    if isinstance(deltas[-1], Failure):
        assert deltas[-1].partial == bool(case.meaning.get("text"))


@pytest.mark.parametrize("case", cases("error"), ids=str)
def test_an_error_is_read_as_it_was_meant(case):
    assert_error(anthropic.decode_error(wire_response(case)), case.meaning)
