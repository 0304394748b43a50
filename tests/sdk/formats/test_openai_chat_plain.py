"""The quick way for plain texts says what the full one says, byte for byte, and leaves everything else to it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sdk.formats import strategies

from byenatos_sdk.formats import llamacpp_server, meta, openai_chat, qianfan, vllm
from byenatos_sdk.formats.openai_chat import plain, requests, responses
from byenatos_sdk.formats.openai_chat.profile import OPENAI
from byenatos_sdk.formats.openai_compatible import DIALECTS
from byenatos_sdk.formats.wire import Reply, WireRequest
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import InferenceResponse, Message, Text, ToolCall, Usage

PROFILES = [
    openai_chat.OPENAI,
    llamacpp_server.PROFILE,
    meta.PROFILE,
    qianfan.PROFILE,
    vllm.PROFILE,
    *(one.profile for one in DIALECTS.values()),
]
CHATS = "/v1/chat/completions"
_numbers = st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-1e15, 1e15)
_wholes = st.none() | st.integers(-(2**63) + 1, 2**63 - 1)
_messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": st.text(max_size=20)}
)
bodies = st.fixed_dictionaries(
    {"messages": st.lists(_messages, min_size=1, max_size=4)},
    optional={
        "model": st.none() | st.text(max_size=8),
        "stream": st.none() | st.booleans(),
        "stream_options": st.none() | st.fixed_dictionaries({}, optional={"include_usage": st.none() | st.booleans()}),
        "temperature": _numbers,
        "top_p": _numbers,
        "max_tokens": _wholes,
        "max_completion_tokens": _wholes,
        "seed": _wholes,
        "presence_penalty": _numbers,
        "frequency_penalty": _numbers,
        "user": st.none() | st.text(max_size=8),
    },
)


def request(body, path=CHATS):
    return WireRequest(path, body if isinstance(body, bytes) else json.dumps(body).encode())


def slowly(wire, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(requests, "read_plain", lambda _: None)
        return openai_chat.decode_request(wire)


@settings(max_examples=300)
@given(bodies)
def test_a_plain_request_is_read_as_it_would_be_in_full(body):
    with pytest.MonkeyPatch.context() as monkeypatch:
        quick = plain.read_plain(request(body))
        assert quick is not None
        full = slowly(request(body), monkeypatch)
    assert quick == full
    assert repr(quick) == repr(full)  # 1 and 1.0 are equal and are not the same on the wire


@settings(max_examples=300)
@given(bodies, st.data())
def test_whatever_is_odd_in_a_plain_request_is_read_or_refused_as_it_would_be_in_full(body, data):
    place = data.draw(st.sampled_from(sorted(body)))
    target = data.draw(st.sampled_from([body, body["messages"][0]]))
    key = place if target is body else data.draw(st.sampled_from(["role", "content", "name", "tool_calls"]))
    target[key] = data.draw(strategies.json_values)
    wire = request(body)

    def outcome(read):
        try:
            return repr(read(wire))
        except InvalidRequest as error:
            return error.message

    with pytest.MonkeyPatch.context() as monkeypatch:
        assert outcome(openai_chat.decode_request) == outcome(lambda wire: slowly(wire, monkeypatch))


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, CHATS),
        ({"messages": [{"role": "user", "content": "x"}], "tools": []}, CHATS),
        ({"messages": [{"role": "user", "content": "x"}], "n": 2}, CHATS),
        ({"messages": [{"role": "user", "content": "x"}]}, CHATS + "?api-version=1"),
        ({"messages": [{"role": "user", "content": "x"}]}, "/openai/deployments/m/chat/completions"),
        ({"prompt": "x"}, "/v1/completions"),
        (b'{"messages":[{"role":"user","content":"\xff"}]}', CHATS),
        (b"[" * 100_000, CHATS),
        (b"", CHATS),
    ],
)
def test_what_is_not_plain_is_left_to_the_full_way(body, path):
    assert plain.read_plain(request(body, path)) is None


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_no_dialect_has_a_field_of_a_plain_request_as_one_of_its_own(profile):
    assert not (profile.extra | profile.also_read) & plain.FIELDS


@settings(max_examples=300)
@given(st.text(min_size=1, max_size=30), strategies.usages(), st.sampled_from(["stop", "length", "content_filter"]))
def test_a_plain_answer_is_written_as_it_would_be_in_full(text, usage, reason):
    response = InferenceResponse(Message("assistant", (Text(text),)), reason, usage, "m")
    reply = Reply(
        "chatcmpl-1",
        "m",
        1763800000,
        openai_chat.decode_request(request({"messages": [{"role": "user", "content": "x"}]})),
    )
    quick = plain.write_plain(response, reply)
    assert quick is not None
    assert quick == responses.encode_choices(OPENAI, [response], reply)


@pytest.mark.parametrize(
    "response",
    [
        InferenceResponse(Message("assistant", ()), "stop", Usage(), "m"),
        InferenceResponse(Message("assistant", (Text("no"),)), "content_filter", Usage(), "m", detail="refusal"),
        InferenceResponse(Message("assistant", (Text("a"), ToolCall("1", "f"))), "tool_calls", Usage(), "m"),
    ],
)
def test_an_answer_with_more_to_say_is_left_to_the_full_way(response):
    assert plain.write_plain(response, Reply("chatcmpl-1", "m", 0)) is None
