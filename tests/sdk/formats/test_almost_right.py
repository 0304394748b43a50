"""What vendors and clients send, with something wrong in it, is read or refused: no crash, no stream without an end."""

import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.sdk.formats.cases import load_all, wire_request, wire_response
from tests.sdk.formats.laws import holds_for_any_bytes
from tests.sdk.formats.mutations import mutated, mutated_stream

from byenatos_sdk.formats import anthropic_messages, dashscope, gemini, huggingface_tgi, hunyuan, ollama
from byenatos_sdk.formats.contract import EmbeddingFormat
from byenatos_sdk.formats.wire import Reply
from byenatos_sdk.protocol.errors import ByenatosError

REPLY = Reply("r1", "m", 1763800000)
FORMATS = [
    (anthropic_messages, "anthropic"),
    (dashscope, "dashscope"),
    (gemini, "gemini"),
    (huggingface_tgi, "huggingface"),
    (hunyuan, "tencent"),
    (ollama, "ollama"),
]
SOME = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

each = pytest.mark.parametrize(("format", "vendor"), FORMATS, ids=[vendor for _, vendor in FORMATS])


def cases(vendor, *kinds):
    return [case for case in load_all(vendor, *kinds) if "models" not in case.meaning]


@each
@SOME
@given(data=st.data(), random=st.randoms(use_true_random=False))
def test_a_request_is_read_or_refused(format, vendor, data, random):
    case = data.draw(st.sampled_from(cases(vendor, "request")))
    wire = replace(wire_request(case), body=json.dumps(mutated(case.wire["body"], random)).encode())
    if isinstance(format, EmbeddingFormat):
        with suppress(ByenatosError):
            format.decode_embedding_request(wire)
    with suppress(ByenatosError):
        request = format.decode_request(wire).request
        assert format.decode_request(format.encode_request(request).wire).request.model == request.model


@each
@SOME
@given(data=st.data(), random=st.randoms(use_true_random=False))
def test_an_answer_is_read_or_an_error(format, vendor, data, random):
    case = data.draw(st.sampled_from(cases(vendor, "response", "error")))
    wire = replace(wire_response(case), body=json.dumps(mutated(case.wire["body"], random)).encode())
    error = format.decode_error(wire)
    assert format.decode_error(format.encode_error(error)).message
    if isinstance(format, EmbeddingFormat):
        with suppress(ByenatosError):
            format.decode_embedding_response(wire)
    with suppress(ByenatosError):
        response = format.decode_response(wire)
        assert format.decode_response(format.encode_response(response, REPLY)).text == response.text


@each
@SOME
@given(data=st.data(), random=st.randoms(use_true_random=False))
def test_a_stream_ends_once(format, vendor, data, random):
    case = data.draw(st.sampled_from(cases(vendor, "stream")))
    holds_for_any_bytes(format, [mutated_stream(case, random)])
