"""The cases of every vendor that speaks OpenAI's chats, both ways; OpenAI's own client judges what we write."""

import pytest
from msgspec.structs import replace
from tests.sdk.formats import cases, laws
from tests.sdk.formats.chat_dialects import read_answer, read_back, read_stream, same_request, wanted

from byenatos_sdk.formats import llamacpp_server, meta, openai_chat, qianfan, vllm
from byenatos_sdk.formats.wire import Decoded, Reply
from byenatos_sdk.protocol.messages import InferenceRequest, user

FORMATS = {
    "openai_chat": openai_chat,
    "vllm": vllm,
    "qianfan": qianfan,
    "llamacpp": llamacpp_server,
    "llama_api": meta,
}
ELSEWHERE = {"vllm/tokenize", "llamacpp/props", "llamacpp/slots", "llama_api/models"}
"""Answers to other questions than for text: each has a test of its own."""

UNSAID = {
    "vllm/req-extra": {"stop_token_ids", "ignore_eos", "min_tokens", "skip_special_tokens", "priority"},
    "vllm/req-structured-outputs": {"structured_outputs"},
    "llamacpp/req-completion": {"cache_prompt"},
    "llamacpp/req-chat-extra": {"reasoning_format", "cache_prompt"},
}
"""What a case's body holds beyond its meaning."""


WORDLESS = {"llama_api_own/stream-openai"}
"""Streams of Meta's Model API that say what the Llama API has no words for."""


def _cases(*kinds, without=(), load=cases.load_all):
    return [
        pytest.param(speaker, case, id=case.id)
        for vendor, speaker in FORMATS.items()
        for case in load(vendor, *kinds)
        if case.id not in ELSEWHERE and vendor not in without
    ]


def _answers(*kinds, without=()):
    """Return the cases of answers that came to an end."""
    return [one for one in _cases(*kinds, without=without) if one.values[1].meaning.get("finish") is not None]


@pytest.mark.parametrize(("format", "case"), _cases("request"))
def test_a_client_s_request_is_read_as_it_was_meant(format, case):
    decoded = format.decode_request(cases.wire_request(case))

    cases.assert_request(decoded, case.meaning)
    for name in UNSAID.get(case.id, ()):
        assert decoded.request.extra[name] == case.wire["body"][name]


@pytest.mark.parametrize(("format", "case"), _cases("request", load=cases.load))
def test_a_request_is_written_as_the_vendor_wants_it(format, case):
    same_request(format, case, frozenset(UNSAID.get(case.id, ())))


@pytest.mark.parametrize(("format", "case"), _cases("request"))
def test_a_request_that_was_read_is_written_and_read_again_as_the_same(format, case):
    decoded = format.decode_request(cases.wire_request(case))

    encoded = format.encode_request(decoded.request, stream=decoded.stream)

    assert encoded.losses == ()
    again = format.decode_request(encoded.wire)
    assert cases.said(again.request.messages) == cases.said(decoded.request.messages)
    assert replace(again.request, messages=(), model="") == replace(decoded.request, messages=(), model="")
    assert again.stream == decoded.stream


@pytest.mark.parametrize(("format", "case"), _cases("response"))
def test_an_answer_is_read(format, case):
    read_answer(format, cases.wire_response(case), case.meaning)


@pytest.mark.parametrize(("format", "case"), _cases("stream"))
def test_a_stream_is_read_however_it_is_cut(format, case):
    deltas = laws.decoded(format, cases.pieces(case))

    cases.assert_deltas(deltas, case.meaning)
    laws.same_however_cut(format, case.wire["raw"].encode(), [len(case.wire["raw"]) // 2])


@pytest.mark.parametrize(("format", "case"), _cases("error"))
def test_an_error_is_read(format, case):
    cases.assert_error(format.decode_error(cases.wire_response(case)), case.meaning)


@pytest.mark.parametrize(("format", "case"), _answers("response", without={"llama_api"}))
def test_openai_s_client_reads_an_answer_as_it_was_meant(format, case, replay):
    assert read_back(replay, format, case.meaning) == wanted(case.meaning)


@pytest.mark.parametrize(("format", "case"), _answers("stream", without={"llama_api"}))
def test_openai_s_client_reads_a_stream_as_it_was_meant(format, case, replay):
    assert read_stream(replay, format, cases.deltas_of_meaning(case.meaning)) == wanted(case.meaning)


@pytest.mark.parametrize(
    ("format", "case"),
    [
        one
        for one in _answers("response", "stream")
        if one.id not in WORDLESS and one.values[1].meaning["finish"] != "unknown"
    ],
)
def test_what_is_written_is_read_as_it_was_meant(format, case):
    raw = Decoded(InferenceRequest((user("x"),), raw="completion" in case.id))
    reply = Reply("1", "m", 1, raw)

    read_answer(format, format.encode_response(cases.response_of(case.meaning), reply), case.meaning)
    written = format.stream_encoder(reply).encode(cases.deltas_of_meaning(case.meaning))
    cases.assert_deltas(laws.decoded(format, [written]), case.meaning)
