"""One hard conversation, from every format to every other: what comes across, and what the loss report says."""

import pytest
from msgspec.structs import replace

from byenatos_sdk.formats.adapt import adapt
from byenatos_sdk.formats.compatibility import CompatibilityLayer
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.formats.wire import WireRequest
from byenatos_sdk.protocol.errors import Unsupported
from byenatos_sdk.protocol.messages import (
    Image,
    InferenceRequest,
    Message,
    Reasoning,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    system,
)

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf50000003018001"
    "a2d75a1b0000000049454e44ae426082"
)
SCHEMA = {"type": "object", "properties": {"c": {"type": "number"}}, "required": ["c"], "additionalProperties": False}
WEATHER = Tool("weather", "Look it up", {"type": "object", "properties": {"city": {"type": "string"}}})
CONVERSATION = InferenceRequest(
    (
        system("Be brief."),
        Message("user", (Text("Which is warmer? "), Image("image/png", PIXEL))),
        Message(
            "assistant",
            (
                Reasoning("Two calls will do.", "c2lnbmVk", "anthropic_messages"),
                ToolCall("call_a", "weather", '{"city":"Paris"}'),
                ToolCall("call_b", "weather", '{"city":"Rome"}'),
            ),
        ),
        Message("tool", (ToolResult("call_a", "22", name="weather"),)),
        Message("tool", (ToolResult("call_b", "no such city", name="weather", is_error=True),)),
        Message("user", (Text("As JSON, please."),)),
    ),
    model="m",
    sampling=Sampling(temperature=0.5, top_p=0.5, top_k=40, min_p=0.1, max_tokens=64, stop=("END",), seed=7),
    tools=(WEATHER,),
    response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}},
)
layer = CompatibilityLayer()


def text_of(request):
    return [part.text for message in request.messages for part in message.parts if isinstance(part, Text)]


def calls_of(request):
    parts = [part for message in request.messages for part in message.parts]
    return [(part.name, part.arguments) for part in parts if isinstance(part, ToolCall)]


def results_of(request):
    parts = [part for message in request.messages for part in message.parts]
    return [part.text.removeprefix("Error: ") for part in parts if isinstance(part, ToolResult)]


def expected_losses(request, row):
    """What the matrix says cannot be said of ``request``; written without a look at how it is adapted."""
    parts = [part for message in request.messages for part in message.parts]
    said = {
        name
        for name in ("temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed")
        if getattr(request.sampling, name) not in (None, ())
    }
    lost = {name for name in said if name not in row.parameters or row.parameters[name].raw_only}
    if request.response_format is not None and request.response_format["type"] not in row.outputs:
        lost.add("response_format")
    if any(isinstance(part, ToolResult) and part.is_error for part in parts) and not row.tool_errors:
        lost.add("tool_result.is_error")
    for part in parts:
        if isinstance(part, Reasoning):
            signed_here = part.signature is not None and row.signatures and part.source in {"", row.format}
            plain = part.signature is None and row.reasoning_history
            if not signed_here and not plain:
                lost.add("reasoning.signature" if row.reasoning_history and part.text else "reasoning")
    return lost


def in_format(name):
    """The conversation as a client of ``name`` sends it, and what the decoder makes of that."""
    source = layer.format(name)
    wire = source.encode_request(CONVERSATION).wire
    prefix = "" if wire.path.startswith(("/v1", "/api")) or name == "hunyuan" else "/v1"
    return source.decode_request(WireRequest(prefix + wire.path, wire.body, wire.headers, wire.method)).request


@pytest.mark.parametrize("source", MATRIX)
@pytest.mark.parametrize("target", MATRIX)
def test_a_hard_conversation_comes_across_and_the_report_says_what_the_matrix_says(source, target):
    asked = in_format(source)
    row = MATRIX[target]
    if not row.images:
        with pytest.raises(Unsupported, match="images"):
            layer.format(target).encode_request(asked)
        asked = replace(
            asked,
            messages=tuple(
                replace(one, parts=tuple(part for part in one.parts if not isinstance(part, Image)))
                for one in asked.messages
            ),
        )
    encoded = layer.format(target).encode_request(asked)
    assert {loss.parameter for loss in encoded.losses} - {"messages"} == expected_losses(asked, row)
    assert calls_of(asked) == calls_of(CONVERSATION)
    assert results_of(asked) == results_of(CONVERSATION)
    assert calls_of(adapt(asked, row).request) == calls_of(CONVERSATION)
    assert "As JSON, please." in text_of(asked)[-1]
    with pytest.raises(Unsupported) if encoded.losses else pytest.MonkeyPatch().context():
        layer.format(target).encode_request(asked, strict=True)
