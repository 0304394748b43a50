"""The matrix against what the formats do: what it says can be said is said, and the rest is refused, clamped, told."""

import pytest
from tests.sdk.formats.test_requests_any_to_any import PIXEL, SCHEMA, WEATHER

from byenatos_sdk.formats.compatibility import CompatibilityLayer
from byenatos_sdk.formats.matrix import MATRIX, PARAMETERS
from byenatos_sdk.formats.wire import WireRequest
from byenatos_sdk.protocol.errors import Unsupported
from byenatos_sdk.protocol.messages import (
    Audio,
    File,
    Image,
    InferenceRequest,
    Message,
    ReasoningOptions,
    Sampling,
    Text,
    ToolCall,
    ToolResult,
    user,
)

ASK = (user("Hi"),)
WHOLE = {"top_k", "max_tokens", "seed", "logprobs"}
TAKEN = {
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 7,
    "min_p": 0.25,
    "max_tokens": 64,
    "stop": ("END",),
    "seed": 7,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.5,
    "logit_bias": {5: 2.0},
    "logprobs": 2,
}
NUMBERS = [name for name in PARAMETERS if name not in {"stop", "logit_bias"}]
layer = CompatibilityLayer()


def read_back(name, encoded):
    """Return what the format itself reads in the request that it wrote."""
    wire = encoded.wire
    prefix = "" if wire.path.startswith(("/v1", "/api")) or name == "hunyuan" else "/v1"
    return layer.format(name).decode_request(WireRequest(prefix + wire.path, wire.body, wire.headers)).request


def encoded(name, **fields):
    fields.setdefault("messages", ASK)
    return layer.format(name).encode_request(InferenceRequest(model="m", **fields))


def refused(name, parameter, **fields):
    """Say that a strict request is refused, and which parameter is named."""
    fields.setdefault("messages", ASK)
    with pytest.raises(Unsupported, match=parameter):
        layer.format(name).encode_request(InferenceRequest(model="m", **fields), strict=True)


@pytest.mark.parametrize("parameter", PARAMETERS)
@pytest.mark.parametrize("name", MATRIX)
def test_a_parameter_is_said_or_refused(name, parameter):
    sampling = Sampling(**{parameter: TAKEN[parameter]})
    limit = MATRIX[name].parameters.get(parameter)
    written = encoded(name, sampling=sampling)
    found = getattr(read_back(name, written).sampling, parameter)
    if limit is None or limit.raw_only:
        assert [loss.parameter for loss in written.losses] == [parameter]
        assert found in (None, (), {})
        refused(name, parameter, sampling=sampling)
    else:
        assert written.losses == ()
        assert found == TAKEN[parameter]


@pytest.mark.parametrize("parameter", NUMBERS)
@pytest.mark.parametrize("name", MATRIX)
def test_a_number_out_of_range_is_clamped_into_it(name, parameter):
    limit = MATRIX[name].parameters.get(parameter)
    if limit is None or limit.raw_only:
        return
    beyond = [limit.low - 1] if limit.low is not None else []
    beyond += [limit.high + 1] if limit.high is not None else []
    beyond += [bound for bound, out in ((limit.low, limit.low_open), (limit.high, limit.high_open)) if out]
    for value in (number for bound in beyond for number in (int(bound), float(bound))):
        if (
            value == limit.omit_at
            or (parameter in WHOLE and isinstance(value, float))
            or (parameter == "top_k" and value == 0)
        ):
            continue
        sampling = Sampling(**{parameter: value})
        written = encoded(name, sampling=sampling)
        found = getattr(read_back(name, written).sampling, parameter)
        assert [(loss.parameter, loss.action) for loss in written.losses] == [(parameter, "clamped")], value
        assert limit.low is None or found > limit.low or (found == limit.low and not limit.low_open), value
        assert limit.high is None or found < limit.high or (found == limit.high and not limit.high_open), value
        assert abs(found - value) <= 1 + limit.step, value
        assert (parameter in WHOLE) <= (found == int(found)), value
        refused(name, parameter, sampling=sampling)


@pytest.mark.parametrize("name", MATRIX)
def test_a_picture_comes_as_the_matrix_says(name):
    row = MATRIX[name]
    for source, image in (
        ("data", Image("image/png", PIXEL)),
        ("url", Image(url="https://x.test/a.png")),
        ("file_id", Image(file_id="file-1")),
    ):
        messages = (Message("user", (Text("What is it?"), image)),)
        if source in row.images:
            written = encoded(name, messages=messages)
            assert written.losses == ()
            (found,) = [one for one in read_back(name, written).messages[-1].parts if isinstance(one, Image)]
            assert (found.data, found.url, found.file_id) == (image.data, image.url, image.file_id)
        else:
            refused(name, "image", messages=messages)


@pytest.mark.parametrize("name", MATRIX)
def test_sounds_and_documents_come_as_the_matrix_says(name):
    row = MATRIX[name]
    sound = Audio(b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav")
    given = [
        (sound, row.audio, "sound"),
        (File("a.pdf", "application/pdf", b"%PDF-1.4"), "data" in row.files, "file"),
        (File("a.pdf", "application/pdf", url="https://x.test/a.pdf"), "url" in row.files, "file"),
        (File(file_id="file-1"), "file_id" in row.files, "file"),
    ]
    for part, able, what in given:
        messages = (Message("user", (Text("What is it?"), part)),)
        if able:
            written = encoded(name, messages=messages)
            assert written.losses == ()
            assert any(isinstance(one, type(part)) for one in read_back(name, written).messages[-1].parts)
        else:
            refused(name, what, messages=messages)


@pytest.mark.parametrize("choice", ["auto", "none", "required", "weather"])
@pytest.mark.parametrize("name", MATRIX)
def test_a_choice_of_tools_is_said_or_refused(name, choice):
    row = MATRIX[name]
    fields = {"tools": (WEATHER,), "tool_choice": choice}
    written = encoded(name, **fields)
    if ("named" if choice == "weather" else choice) in row.tool_choices:
        assert written.losses == ()
        found = read_back(name, written)
        assert (found.tool_choice, [tool.name for tool in found.tools]) == (choice, ["weather"])
    elif written.losses:
        refused(name, "tool_choice", **fields)
    else:  # the only tool, required by its name; or no tools at all, where none may be called
        found = read_back(name, written)
        assert (choice == "required" and found.tool_choice == "weather") or (choice == "none" and not found.tools)


@pytest.mark.parametrize("name", MATRIX)
def test_parallel_calls_are_forbidden_or_it_is_refused(name):
    fields = {"tools": (WEATHER,), "parallel_tool_calls": False}
    if MATRIX[name].parallel_switch:
        written = encoded(name, **fields)
        assert (written.losses, read_back(name, written).parallel_tool_calls) == ((), False)
    else:
        refused(name, "parallel_tool_calls", **fields)


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
@pytest.mark.parametrize("name", MATRIX)
def test_a_form_of_answers_is_said_or_refused(name, kind):
    form = {"type": kind} | ({"json_schema": {"name": "a", "schema": SCHEMA}} if kind == "json_schema" else {})
    if kind in MATRIX[name].outputs:
        written = encoded(name, response_format=form)
        assert written.losses == ()
        found = read_back(name, written).response_format
        assert found["type"] == kind
        assert kind == "json_object" or found["json_schema"]["schema"] == SCHEMA
    else:
        refused(name, "response_format", response_format=form)


@pytest.mark.parametrize("name", MATRIX)
def test_thinking_is_asked_for_as_the_matrix_says(name):
    row = MATRIX[name]
    for way, options in (("effort", ReasoningOptions("high")), ("budget", ReasoningOptions(budget=2048))):
        written = encoded(name, reasoning=options, sampling=Sampling(max_tokens=8192))
        told = [loss for loss in written.losses if loss.parameter.startswith("reasoning")]
        if way in row.reasoning:
            assert told == []
            found = read_back(name, written).reasoning
            assert found is not None
            assert (found.effort if way == "effort" else found.budget) == (options.effort or options.budget)
        else:
            assert len(told) == 1
            refused(name, "reasoning", reasoning=options)


@pytest.mark.parametrize("name", MATRIX)
def test_a_result_that_is_an_error_is_marked_or_it_is_refused(name):
    call = Message("assistant", (ToolCall("call_a", "weather", "{}"),))
    messages = (*ASK, call, Message("tool", (ToolResult("call_a", "no such city", True, "weather"),)))
    fields = {"messages": messages, "tools": (WEATHER,)}
    if MATRIX[name].tool_errors:
        written = encoded(name, **fields)
        assert written.losses == ()
        results = [one for turn in read_back(name, written).messages for one in turn.parts if hasattr(one, "is_error")]
        assert [(one.text, one.is_error) for one in results] == [("no such city", True)]
    else:
        refused(name, "is_error", **fields)
